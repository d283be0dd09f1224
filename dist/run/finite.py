"""Whether what a model is made of, and what it says, are numbers one can go on with."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor

# The product of two vectors within it is a number still, whatever their width.
LARGEST_VECTOR = 1e15


def not_finite(tensors: Any) -> str | None:
    """As `own_not_finite`, of all ranks: each hears of what any has found. A collective."""
    found = own_not_finite(tensors)
    if not torch_dist.is_initialized() or torch_dist.get_world_size() == 1:
        return found
    of_ranks: list[str | None] = [None] * torch_dist.get_world_size()
    torch_dist.all_gather_object(of_ranks, found)
    return next((name for name in of_ranks if name is not None), None)


def own_not_finite(tensors: Any) -> str | None:
    """The name of a tensor that holds a value which is NaN or infinite; None where all are finite.

    Reads every value once, and waits for the device once.

    Args:
        tensors: in whatever dicts and lists; of a sharded one, this rank's shards are looked at.
    """
    parts = [(name, torch.stack(torch.aminmax(part.detach()))) for name, part in _parts(tensors, "")]
    # The least and the largest value are NaN where any is.
    fine = torch.stack([ends.double().isfinite().all() for _, ends in parts]).cpu() if parts else torch.ones(0)
    return next((name for (name, _), ok in zip(parts, fine.tolist(), strict=True) if not ok), None)


def usable(vectors: Tensor) -> Tensor:
    """``[N]`` bool: which of the vectors ``[N, D]`` are numbers, and none so large that a product with another overflows."""
    return (vectors.abs() <= LARGEST_VECTOR).all(1)


def _parts(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """This rank's pieces of all tensors of floating point, with their names."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _parts(one, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for at, one in enumerate(value):
            yield from _parts(one, f"{name}.{at}")
    elif hasattr(value, "local_shards"):
        for shard in value.local_shards():
            local = shard.tensor if hasattr(shard, "tensor") else shard
            yield from _parts(local, name)
    elif isinstance(value, Tensor) and value.is_floating_point() and value.numel():
        yield name, value
