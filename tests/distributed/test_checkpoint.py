"""Checkpoints survive other plans and rank counts, interruptions, and their own deletion."""

import json
import resource
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from foundrank.data.config.experiment import Experiment
from foundrank.data.errors import UserError
from foundrank.dist.evaluate.evaluate import validation_score
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.run import checkpoint_writer as checkpoint
from foundrank.dist.run import kept_checkpoints
from foundrank.dist.sharding.shard import shard
from foundrank.dist.train.optimizer import Optimizer

from .harness import run_ranks
from .rank_work import batches_of, dense_of, make_encoder, sparse_state_of, tables_of, train_run, whole

Held = tuple[dict, dict, dict, dict]
"""Tables, sparse optimizer state, dense parameters, dense optimizer state of a rank."""


def held(sharded: Any, optimizer: Optimizer) -> Held:
    adamw = {
        f"{number}.{name}": value.numpy().copy()
        for number, state in optimizer.dense_state()["state"].items()
        for name, value in state.items()
    }
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
    checkpoints = checkpoint.Checkpoints(run, 2, runtime)
    learned = threading.Event()
    checkpoints._thread.submit(learned.wait)  # a slow disk: what is learned before it is written is not in it
    checkpoints.save(sharded, optimizer, {"step": 3})
    before = held(sharded, optimizer)
    optimizer.set_progress(0.5)
    pipeline.progress(batches_of(encoder, runtime.rank, runtime.world_size))
    pipeline.detach()
    learned.set()
    checkpoints.wait()
    after = held(sharded, optimizer)
    assert not same(dict(before[2]), dict(after[2]))
    return before


def load(runtime: Runtime, experiment: Experiment, run: Path) -> Held:
    sharded = shard(make_encoder(experiment).layout, experiment, runtime)
    optimizer = Optimizer(sharded, experiment.training)
    assert checkpoint.load_newest(run, sharded, optimizer, runtime) is not None
    return held(sharded, optimizer)


def save_steps(
    runtime: Runtime, experiment: Experiment, run: Path, aucs: list[float | None], keep: int
) -> list[list[str]]:
    """Saves once per validation AUC, steps 1, 2, ...; the folders there after each."""
    sharded = shard(make_encoder(experiment).layout, experiment, runtime)
    optimizer, seen = Optimizer(sharded, experiment.training), []
    checkpoints = checkpoint.Checkpoints(run, keep, runtime)
    for step, auc in enumerate(aucs, 1):
        state = {"step": step} | ({} if auc is None else {"validation": auc})
        checkpoints.save(sharded, optimizer, state)
        checkpoints.wait()
        runtime.barrier()
        seen.append(sorted(folder.name for folder in (run / "checkpoints").iterdir()))
        runtime.barrier()
    return seen


def row_wise_moments(values: np.ndarray, rows: int) -> np.ndarray:
    """Over all columns, from one moment per column shard."""
    return values.reshape(-1, rows).mean(0)


@pytest.mark.parametrize(
    ("saved", "ranks", "loaded"),
    [
        ("row_wise", 1, "auto"),
        ("row_wise", 2, "column_wise"),
        ("row_wise", 2, "table_wise"),
        ("column_wise", 2, "row_wise"),
        ("table_wise", 1, "auto"),
    ],
)
def test_a_checkpoint_loads_on_another_plan_and_number_of_ranks(small, tmp_path, saved, ranks, loaded):
    before = run_ranks(train_and_save, 2, small(f"training.sharding={saved}"), tmp_path)
    after = run_ranks(load, ranks, small(f"training.sharding={loaded}"), tmp_path)
    tables, moments = whole([rank[0] for rank in before]), whole([rank[1] for rank in before])
    got_tables, got_moments = whole([rank[0] for rank in after]), whole([rank[1] for rank in after])
    assert got_tables.keys() == tables.keys()
    assert got_moments.keys() == moments.keys() == {f"{name}.momentum1" for name in tables}
    for name, table in tables.items():
        np.testing.assert_array_equal(got_tables[name], table, err_msg=name)
        given, wanted = (row_wise_moments(m[f"{name}.momentum1"], len(table)) for m in (got_moments, moments))
        assert wanted.any()
        np.testing.assert_allclose(given, wanted, rtol=1e-6, err_msg=name)
    for _, _, dense, adamw in after:
        assert same(dense, before[0][2])
        assert same(adamw, before[0][3])


def same(given: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    return given.keys() == wanted.keys() and all(np.array_equal(value, wanted[name]) for name, value in given.items())


def test_sgd_has_no_state_and_is_saved_and_loaded_all_the_same(small, tmp_path):
    sgd = "training.sparse_optimizer=sgd"
    before = run_ranks(train_and_save, 2, small(sgd, "training.sharding=row_wise"), tmp_path)
    after = run_ranks(load, 2, small(sgd, "training.sharding=table_wise"), tmp_path)
    assert same(whole([rank[0] for rank in after]), whole([rank[0] for rank in before]))


@pytest.mark.parametrize("sharding", ["auto", "row_wise"])
def test_a_resumed_run_ends_as_an_undisturbed_one(small, tmp_path, sharding):
    experiment = small(
        f"training.sharding={sharding}", "training.batch_size=400", "training.checkpoint_every=4", "training.epochs=2",
        "training.keep_best=false", "training.keep_checkpoints=99", "model.dropout=0.2", "model.id_dropout=0.2",
        "model.hide_rare_items=3",
    )  # fmt: skip
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    run_ranks(train_run, 2, experiment, undisturbed)
    shutil.copytree(undisturbed, stopped)
    folders = sorted((stopped / "checkpoints").iterdir())
    # Stopped in the middle of the second epoch, while writing the checkpoint after that.
    positions = [position_of(folder) for folder in folders]
    back = next(at for at, position in enumerate(positions) if position["epoch"] == 1 and position["taken"])
    for folder in folders[back + 1 :]:
        (folder / "COMMITTED").unlink()
    assert back + 1 < len(folders)
    run_ranks(train_run, 2, experiment, stopped)

    assert [line["step"] for line in lines_of(stopped)] == list(range(1, step_of(folders[-1]) + 1))
    assert [line["loss"] for line in lines_of(stopped)] == [line["loss"] for line in lines_of(undisturbed)]
    first, second = (run_ranks(load, 2, experiment, run) for run in (undisturbed, stopped))
    for (_, _, dense, adamw), (_, _, other_dense, other_adamw) in zip(first, second, strict=True):
        assert same(dense, other_dense)
        assert same(adamw, other_adamw)
    for part in (0, 1):
        assert same(whole([rank[part] for rank in first]), whole([rank[part] for rank in second]))


def test_validation_within_an_epoch_changes_no_step_and_its_best_checkpoint_is_used(small, tmp_path):
    runs = {}
    for name, changes in (("plain", ()), ("judged", ("training.validate_every=2", "training.keep_checkpoints=1"))):
        experiment = small("training.batch_size=400", "training.learning_rate=1.0", *changes)
        runs[name] = tmp_path / name
        run_ranks(train_run, 2, experiment, runs[name])
    judged, plain = (lines_of(runs[name]) for name in ("judged", "plain"))
    assert [line["loss"] for line in judged] == [line["loss"] for line in plain]
    last, rows = len(plain), json.loads((runs["judged"] / "validation.json").read_text())["rows"]
    steps = sorted({row["step"]: row["epoch"] for row in rows}.items())
    assert [step for step, _ in steps] == [*range(2, last, 2), last]
    assert [epoch for _, epoch in steps] == pytest.approx([step / last for step, _ in steps])
    # What it is chosen by is kept with the best one, which outlives newer ones, and is what every command takes.
    chosen = json.loads((runs["judged"] / "best.json").read_text())
    layout = make_encoder(experiment).layout
    scores = {step: validation_score(layout, [row for row in rows if row["step"] == step]) for step, _ in steps}
    assert chosen["step"] == max(scores, key=lambda step: scores[step] or 0) < last
    assert chosen["step"] == step_of(kept_checkpoints.best(runs["judged"]))


def test_an_epoch_stopped_on_two_ranks_is_finished_by_one(small, tmp_path):
    experiment = small("training.batch_size=400", "training.checkpoint_every=4", "training.keep_best=false")
    run = tmp_path / "run"
    run_ranks(train_run, 2, experiment, run)
    newest = newest_of(run)
    (newest / "COMMITTED").unlink()
    stopped = newest_of(run)
    assert position_of(stopped)["taken"]
    left_on_two = step_of(newest) - step_of(stopped)
    run_ranks(train_run, 1, experiment, run)
    last = newest_of(run)
    assert position_of(last) == {"epoch": 1, "taken": []}
    assert 2 * left_on_two - 1 <= step_of(last) - step_of(stopped) <= 2 * left_on_two


def newest_of(run: Path) -> Path:
    """The newest complete checkpoint."""
    return max(run.glob("checkpoints/step_*/COMMITTED")).parent


def step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step_"))


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def position_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "state.json").read_text())["position"]


def test_an_incomplete_checkpoint_is_ignored(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(UserError, match="has no complete checkpoint"):
        kept_checkpoints.best(run)
    for step, committed in ((7, True), (9, False)):
        folder = run / "checkpoints" / f"step_{step:08d}"
        folder.mkdir(parents=True)
        if committed:
            (folder / "COMMITTED").touch()
    (run / "checkpoints" / ".step_00000011.tmp").mkdir()
    (run / "checkpoints" / ".step_00000011.tmp" / "COMMITTED").touch()
    (run / "best.json").write_text(json.dumps({"step": 9, "validation": 0.9}))
    complete = run / "checkpoints" / "step_00000007"
    assert kept_checkpoints.best(run) == complete
    (complete / "COMMITTED").unlink()
    with pytest.raises(UserError, match="has no complete checkpoint"):
        kept_checkpoints.best(run)


def test_the_newest_and_the_best_checkpoints_are_kept(small, tmp_path):
    aucs = [0.6, 0.8, None, 0.7, None]
    for seen in run_ranks(save_steps, 2, small(), tmp_path, aucs, 2):
        assert [[int(name[-1]) for name in names] for names in seen] == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5]]
    assert kept_checkpoints.best(tmp_path).name == "step_00000002"
    assert newest_of(tmp_path).name == "step_00000005"


def damage(path: Path, how: str) -> None:
    if how == "changed":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x80  # in a text, no UTF-8 any more
        path.write_bytes(content)
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["changed", "truncated", "removed"])
@pytest.mark.parametrize("name", ["__1_0.distcp", "dense_optimizer.pt", "COMMITTED"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(small, tmp_path, name, how):
    run_ranks(save_steps, 2, small(), tmp_path, [None, None], 2)
    folder = tmp_path / "checkpoints" / "step_00000002"
    damage(folder / name, how)
    assert run_ranks(steps_loaded, 2, small(), tmp_path) == [1, 1]
    assert (folder / "DAMAGED").is_file() == ((name, how) != ("COMMITTED", "removed"))
    assert newest_of(tmp_path).name == "step_00000001"


def test_where_all_checkpoints_are_damaged_the_first_bad_file_is_named(small, tmp_path):
    run_ranks(save_steps, 2, small(), tmp_path, [None], 2)
    damage(newest_of(tmp_path) / "__1_0.distcp", "changed")
    with pytest.raises(pytest.fail.Exception, match=r"__1_0\.distcp: is damaged"):
        run_ranks(check_newest, 2, tmp_path)
    with pytest.raises(pytest.fail.Exception, match="all its checkpoints are damaged"):
        run_ranks(steps_loaded, 2, small(), tmp_path)


def steps_loaded(runtime: Runtime, experiment: Experiment, run: Path) -> int:
    sharded = shard(make_encoder(experiment).layout, experiment, runtime)
    state = checkpoint.load_newest(run, sharded, Optimizer(sharded, experiment.training), runtime)
    assert state is not None
    return state["step"]


def check_newest(runtime: Runtime, run: Path) -> None:
    kept_checkpoints.checked_best(run, runtime)


def test_a_checkpoint_that_cannot_be_written_leaves_the_ones_before(small, tmp_path):
    told = run_ranks(save_with_little_room, 2, small(), tmp_path)
    assert all("cannot be written (File too large)" in each for each in told)
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir()] == ["step_00000001"]
    assert run_ranks(steps_loaded, 2, small(), tmp_path) == [1, 1]


def save_with_little_room(runtime: Runtime, experiment: Experiment, run: Path) -> str:
    sharded = shard(make_encoder(experiment).layout, experiment, runtime)
    optimizer = Optimizer(sharded, experiment.training)
    checkpoints = checkpoint.Checkpoints(run, 2, runtime)
    checkpoints.save(sharded, optimizer, {"step": 1})
    checkpoints.wait()
    if runtime.rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    checkpoints.save(sharded, optimizer, {"step": 2})
    with pytest.raises(UserError) as failure:
        checkpoints.wait()
    runtime.barrier()
    return str(failure.value)
