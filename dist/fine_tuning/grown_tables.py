"""Reading a checkpoint's tables into larger ones."""

from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list


class GrownTables(DefaultLoadPlanner):
    """Reads tables into larger ones, whose first rows they are; each rank reads the rows it holds."""

    def create_local_plan(self) -> LoadPlan:
        assert self.metadata is not None
        items = []
        for name, value in self.state_dict.items():
            saved = self.metadata.state_dict_metadata[name]
            items += create_read_items_for_chunk_list(name, saved, _chunks(value))  # type: ignore[arg-type]
        return LoadPlan(items)


def _chunks(value: Any) -> list[ChunkStorageMetadata]:
    """Where in the whole tensor this rank's parts of it are."""
    if not hasattr(value, "local_shards"):
        return [ChunkStorageMetadata(torch.Size([0] * value.dim()), value.size())]
    parts = [part.metadata for part in value.local_shards()]
    return [ChunkStorageMetadata(torch.Size(of.shard_offsets), torch.Size(of.shard_sizes)) for of in parts]
