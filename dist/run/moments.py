"""The tables' row-wise moments, as a checkpoint of another plan has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import TensorStorageMetadata


@dataclass
class Moment:
    """A row-wise moment whose saved size is not the one this plan needs.

    Each column shard of a table has a moment per row of its own, and a state dict lays these end to end: ``[shards x
    rows]``. Another number of column shards gets their mean, which is the moment over all columns.
    """

    states: dict[str, Any]
    name: str
    rows: int
    planned: Any

    def put_back(self) -> None:
        mean = self.states[self.name].view(-1, self.rows).mean(0)
        for part in self.planned.local_shards():
            start = part.metadata.shard_offsets[0]
            at = torch.arange(start, start + part.metadata.shard_sizes[0]) % self.rows
            part.tensor.copy_(mean[at])
        self.states[self.name] = self.planned


def take_moments_of_another_plan(tensors: dict[str, Any], saved: Mapping[str, TensorStorageMetadata]) -> list[Moment]:
    """Puts tensors of the size they were ``saved`` with in the place of those that are planned with another size."""
    out = []
    for parameter, states in tensors.get("sparse_optimizer", {}).items():
        for name, planned in list(states.items()):
            if (kept := saved.get(f"sparse_optimizer.{parameter}.{name}")) is None:
                continue  # told when it is read
            size = kept.size
            if size != _size(planned):
                out.append(Moment(states, name, _size(tensors["model"][parameter])[0], planned))
                states[name] = torch.empty(size)
    return out


def _size(value: Any) -> torch.Size:
    """Of a tensor in one piece or in shards. PyTorch deprecates asking one in shards as a tensor is asked."""
    return value.metadata().size if hasattr(value, "local_shards") else value.size()
