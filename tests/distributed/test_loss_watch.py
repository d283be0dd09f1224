"""A loss that is not a number ends a training before it is saved, and names the rows."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.run.kept_checkpoints import complete
from foundrank.dist.train.optimizer import Optimizer
from foundrank.model.kinds import KINDS

from .conftest import SMALL
from .harness import run_ranks
from .rank_work import train_run


def train_to_the_end(runtime: Runtime, experiment: Experiment, run: Path) -> str:
    try:
        train_run(runtime, experiment, run)
    except UserError as error:
        return error.what
    return ""


@pytest.fixture(scope="module")
def poisoned(world, tmp_path_factory) -> tuple[Path, Path, int, int]:
    """The experiment file of the world with a vector in each event, one of them too large to compute with; its file, row group and row."""
    folder = tmp_path_factory.mktemp("poisoned") / "data"
    shutil.copytree(world.parent, folder)
    files = sorted(folder.glob("**/*.parquet"))
    events = [file for file in files if "click" in pq.read_schema(file).names]
    chosen = next(file for file in events if "train" in str(file))
    for file in events:
        table = pq.read_table(file)
        values = np.zeros((table.num_rows, 2), np.float32)
        if file == chosen:
            values[17] = 9e29
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 2)
        pq.write_table(table.append_column("extra", column), file, row_group_size=10)
    return folder / world.name, chosen, 1, 7


@pytest.mark.parametrize("log_every", [1, 1000])
def test_the_rows_of_the_first_bad_batch_are_named_and_nothing_bad_is_saved(poisoned, tmp_path, log_every):
    path, file, group, row = poisoned
    extra = ("context.extra.kind=vector", "context.extra.size=2", "training.checkpoint_every=1")
    experiment = load_experiment(path, [*SMALL, *extra, f"training.log_every={log_every}"], kinds=KINDS)
    run = tmp_path / "run"
    told = run_ranks(train_to_the_end, 2, experiment, run)
    assert all("the loss is no longer a number" in what for what in told)
    (found,) = run.glob("bad_rows.rank*.parquet")
    assert found.name in told[0]
    rows = pq.read_table(found).to_pylist()
    assert {"file": str(file), "row_group": group, "row": row} in rows
    assert len(rows) <= experiment.training.batch_size + len(experiment.domains)
    newest = max(run.glob("checkpoints/step_*/COMMITTED")).parent
    dcp_to_torch_save(newest, tmp_path / "whole.pt")
    tensors = torch.load(tmp_path / "whole.pt", weights_only=True)["model"]
    assert all(torch.isfinite(value).all() for value in tensors.values())


def ruin_the_last_step(runtime: Runtime, experiment: Experiment, run: Path, table: bool) -> str:
    """A training whose third and last update is one that a weight does not survive; its loss was from before."""
    step, taken = Optimizer.step, []

    def ruined(self: Optimizer) -> None:
        step(self)
        taken.append(self)
        if len(taken) == 3 and not table:
            next(p for p in self._dense if p.numel() > 1).data.view(-1)[0] = np.inf
        if len(taken) == 3 and table and runtime.rank == 1:
            shards = [shard for p in self._fused.params.values() for shard in p.local_shards()]  # type: ignore[attr-defined]
            shards[0].tensor[-1, 0] = np.nan

    Optimizer.step = ruined  # type: ignore[method-assign]  # in a process of its own
    return train_to_the_end(runtime, experiment, run)


@pytest.mark.parametrize("table", [False, True])
def test_a_last_update_that_ruins_the_weights_is_not_saved(world, tmp_path, table):
    experiment = load_experiment(world, [*SMALL, "training.max_steps=3", "training.checkpoint_every=2"], kinds=KINDS)
    run = tmp_path / "run"
    told = run_ranks(ruin_the_last_step, 2, experiment, run, table)
    assert all("an update has left values that are NaN or infinite" in what for what in told), told
    assert sorted(complete(run)) == [2]
    assert not (run / "validation.json").exists()
    # Going on, it ends as it would have ended.
    assert run_ranks(train_to_the_end, 2, experiment, run) == ["", ""]
    assert sorted(complete(run)) == [2, 3]
