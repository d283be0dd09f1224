"""The tables' row-wise moments, as a checkpoint of another plan has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata


@dataclass
class Moment:
    """A row-wise moment whose saved size is not the one this plan needs.

    Each column shard of a table has a moment per row of its own, and a state dict lays these end to end: ``[shards x
    rows]``. Another number of column shards gets their mean, which is the moment over all columns. A table that has grown has more
    rows than were ``saved``; nothing is known of the others.
    """

    states: dict[str, Any]
    name: str
    saved: int
    rows: int
    planned: Any

    def put_back(self) -> None:
        mean = self.states[self.name].view(-1, self.saved).mean(0)
        for part in self.planned.local_shards():
            at = rows_of_moment(part, self.rows)
            part.tensor.copy_(torch.where(at < self.saved, mean[at.clamp(max=self.saved - 1)], 0))
        self.states[self.name] = self.planned


def rows_of_moment(part: Any, rows: int) -> Tensor:
    """``[N]`` int64, the rows of a table of so many that a shard of a row-wise moment is of."""
    start = part.metadata.shard_offsets[0]
    return torch.arange(start, start + part.metadata.shard_sizes[0]) % rows


def take_moments_of_another_plan(tensors: dict[str, Any], saved: Mapping[str, TensorStorageMetadata]) -> list[Moment]:
    """Puts tensors of the size they were ``saved`` with in the place of those that are planned with another size."""
    out = []
    for parameter, states in tensors.get("sparse_optimizer", {}).items():
        for name, planned in list(states.items()):
            if (kept := saved.get(f"sparse_optimizer.{parameter}.{name}")) is None:
                continue  # told when it is read
            size, rows = kept.size, _size(tensors["model"][parameter])[0]
            of_table = saved.get(f"model.{parameter}")
            were = rows if of_table is None else of_table.size[0]
            if len(size) == 1 and (size, were) != (_size(planned), rows):
                out.append(Moment(states, name, were, rows, planned))
                states[name] = torch.empty(size)
    return out


def _size(value: Any) -> torch.Size:
    """Of a tensor in one piece or in shards. PyTorch deprecates asking one in shards as a tensor is asked."""
    return value.metadata().size if hasattr(value, "local_shards") else value.size()
