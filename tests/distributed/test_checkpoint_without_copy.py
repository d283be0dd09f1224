"""Checkpoints of which there is no copy: of the last step, and where a rank has no memory for one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.planner import WriteItem

from foundrank.data.config.experiment import Experiment
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.run import checkpoint_writer as checkpoint
from foundrank.dist.sharding.shard import shard
from foundrank.dist.train.optimizer import Optimizer

from .harness import run_ranks
from .rank_work import make_encoder, whole
from .test_checkpoint import Held, held, load, same


def without_room(runtime: Runtime, experiment: Experiment, run: Path, room: int, last: bool) -> tuple[Held, list[bool]]:
    """Saves where a copy does not fit; what was saved, and whether it was there at once, and was the tables' own memory."""
    sharded = shard(make_encoder(experiment).layout, experiment, runtime)
    optimizer = Optimizer(sharded, experiment.training)
    checkpoints, seen = checkpoint.Checkpoints(run, 2, runtime), list[bool]()
    checkpoint.free_memory = lambda processes: room if runtime.rank else 2**40  # type: ignore[assignment]
    planned = checkpoint.Planner.resolve_data

    def resolve(planner: checkpoint.Planner, item: WriteItem) -> Any:
        tensor = planned(planner, item)
        if "embedding_bags" in item.index.fqn and "momentum" not in item.index.fqn:
            memory = [each.untyped_storage() for each in table_memory(sharded)]
            inside = [0 <= tensor.data_ptr() - each.data_ptr() < each.nbytes() for each in memory]
            seen.append(any(inside) and tensor.untyped_storage().nbytes() == tensor.nbytes)
        return tensor

    checkpoint.Planner.resolve_data = resolve  # type: ignore[method-assign]
    seen.append(checkpoints.save(sharded, optimizer, {"step": 3}, last))  # all ranks are to wait
    checkpoints.close()
    return held(sharded, optimizer), seen


def table_memory(sharded: Any) -> list[torch.Tensor]:
    return [each for name, each in sharded.named_parameters() if "embedding_bags" in name]


@pytest.mark.parametrize(("room", "last"), [(0, False), (2**40, True)])
def test_where_a_copy_does_not_fit_or_is_not_needed_tables_are_written_as_they_are(small, tmp_path, room, last):
    experiment = small("training.sharding=row_wise")
    saved = run_ranks(without_room, 2, experiment, tmp_path, room, last)
    assert all(len(seen) > 1 and all(seen) for _, seen in saved)
    for (before, _), after in zip(saved, run_ranks(load, 2, experiment, tmp_path), strict=True):
        for kind in (0, 2, 3):
            assert before[kind].keys() == after[kind].keys()
        assert same(before[2], after[2])
    assert same(
        whole([rank[0][0] for rank in saved]), whole([rank[0] for rank in run_ranks(load, 2, experiment, tmp_path)])
    )
