"""Checkpoints survive other plans and rank counts, interruptions, and their own deletion."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundrank.data.experiment import Experiment
from foundrank.dist import checkpoint
from foundrank.dist.optimizer import Optimizer
from foundrank.dist.runtime import Runtime
from foundrank.dist.sharding import shard
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from .harness import run_ranks
from .rank_work import batches_of, dense_of, make_encoder, sparse_state_of, tables_of, whole

Held = tuple[dict, dict, dict, dict]
"""Tables, sparse optimizer state, dense parameters, dense optimizer state of a rank."""


def held(sharded: Any, optimizer: Optimizer) -> Held:
    adamw = {f"{number}.{name}": value.numpy().copy() for number, state in optimizer.dense_state()["state"].items() for name, value in state.items()}
    return tables_of(sharded), sparse_state_of(sharded), dense_of(sharded), adamw


def train_and_save(runtime: Runtime, experiment: Experiment, run: Path) -> Held:
    encoder = make_encoder(experiment)
    sharded = shard(encoder.layout, experiment, runtime)
    optimizer = Optimizer(sharded, experiment.training)
    pipeline = TrainPipelineSparseDist(sharded, optimizer, runtime.device, execute_all_batches=True)  # type: ignore[arg-type]
    batches = batches_of(encoder, runtime.rank, runtime.world_size)
    for _ in range(3):
        optimizer.set_progress(0.5)
        pipeline.progress(batches)
    pipeline.detach()
    checkpoint.save(run, sharded, optimizer, {"step": 3}, 2, runtime)
    return held(sharded, optimizer)


def load(runtime: Runtime, experiment: Experiment, run: Path) -> Held:
    sharded = shard(make_encoder(experiment).layout, experiment, runtime)
    optimizer = Optimizer(sharded, experiment.training)
    folder = checkpoint.latest(run)
    assert folder is not None
    assert checkpoint.load(folder, sharded, optimizer) == {"step": 3}
    return held(sharded, optimizer)


@pytest.mark.parametrize(("ranks", "sharding"), [(1, "auto"), (2, "column_wise"), (2, "table_wise"), (2, "row_wise")])
@pytest.mark.parametrize("optimizer", ["rowwise_adagrad"])
def test_x(small, tmp_path, ranks, sharding, optimizer):
    ch = f"training.sparse_optimizer={optimizer}"
    a = run_ranks(train_and_save, 2, small("training.sharding=row_wise", ch), tmp_path)
    b = run_ranks(load, ranks, small(f"training.sharding={sharding}", ch), tmp_path)
