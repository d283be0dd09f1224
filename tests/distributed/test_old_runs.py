"""Runs of the last version before format 2: used as what they were trained as, or refused."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from foundrank.data.config.load import load_experiment, plain
from foundrank.data.errors import UserError
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.run.checkpoint_reader import read_tensors
from foundrank.dist.run.kept_checkpoints import best
from foundrank.dist.run.new_run import check_new_or_same, keep_format
from foundrank.dist.run.run_folder import open_experiment, open_run
from foundrank.model.kinds import KINDS

from .harness import run_ranks
from .rank_work import evaluate_test, train_run
from .small_events import write_events

MADE = Path(__file__).with_name("old_runs")
EXACT = {
    "whole": "table by table",
    "rows": "all by rows",
    "none": "gate: none, table by table",
    "none_cut": "by columns",
}
REFUSED = {
    "mixed": r"id_item table-wise beside tables cut by rows: its lists were divided by their lengths twice",
    "grid": r"id_item grid-shard: its lists were sums, not means",
}


@pytest.fixture(scope="session")
def old_events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    write_events(folder)
    return folder


@pytest.fixture
def old_run(old_events: Path, tmp_path: Path):
    """A run by name, unpacked, its paths those of the events here."""

    def unpacked(name: str, finished: bool = True) -> Path:
        run = tmp_path / name
        with tarfile.open(MADE / f"{name}.tar.gz") as packed:
            packed.extractall(run, filter="data")
        for file in (run / "experiment.yaml", run / "events.json"):
            file.write_text(file.read_text().replace("DATA", str(old_events)))
        assert not list(run.rglob("*.tmp"))
        if not finished:
            (run / "run.json").unlink()
        return run

    return unpacked


def measured(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {
        f"{row['domain']} {metric}": row[metric]
        for row in rows
        if row["slice"] == "all"
        for metric in ("auc", "logloss")
    }


def evaluated(runtime: Runtime, run: Path) -> dict[str, Any]:
    return evaluate_test(run, runtime)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_what_is_exact_is_used_as_it_was_trained(old_run, name: str, ranks: int):
    run = old_run(name)
    wanted = measured(json.loads((run / "evaluation.json").read_text())["rows"])
    found = measured(run_ranks(evaluated, ranks, run)[0]["rows"])
    assert found == pytest.approx(wanted, abs=2e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_meant_something_else_is_refused(old_run, name: str):
    with pytest.raises(UserError, match=REFUSED[name]):
        open_experiment(old_run(name))


def test_a_run_without_lists_does_not_mind_its_plan(old_run):
    run = old_run("mixed")
    file = run / "experiment.yaml"
    text = file.read_text()
    file.write_text(text.replace("kind: list", "kind: categorical").replace("encoder: mean", "encoder: sasrec"))
    assert file.read_text().count("categorical") == text.count("categorical") + 1
    open_experiment(run)


@pytest.mark.parametrize(
    ("name", "refused"), [("whole", None), ("rows", "does not say how its tables were cut by rows")]
)
def test_an_unfinished_run_is_used_where_its_checkpoint_tells_enough(old_run, name: str, refused: str | None):
    run = old_run(name, finished=False)
    if refused is None:
        open_experiment(run)
        return
    with pytest.raises(UserError, match=refused):
        open_experiment(run)


def test_an_unfinished_run_of_gate_none_is_refused(old_run):
    with pytest.raises(UserError, match="in which order gate: none had its tables"):
        open_run(old_run("none", finished=False))


def test_a_newer_run_is_refused(old_run):
    run = old_run("whole")
    (run / "run.json").write_text('{"format": 3}')
    with pytest.raises(UserError, match="is of format 3, which a newer version made"):
        open_experiment(run)


def test_a_run_goes_on_as_one_of_todays(old_run):
    run = old_run("whole")
    keep_format(run)
    info = json.loads((run / "run.json").read_text())
    assert (info["format"], info["steps"]) == (2, 120)
    with pytest.raises(UserError, match=r"cannot go on.*init_from"):
        keep_format(old_run("none"))


@pytest.mark.parametrize("name", ["whole", "none"])
def test_a_fine_tuning_begins_with_what_the_run_was(old_run, old_events, tmp_path: Path, name: str):
    run = old_run(name)
    wanted = measured(json.loads((run / "evaluation.json").read_text())["rows"])
    changes = [
        f"init_from={run}",
        "training.learning_rate=1e-12",
        "training.sparse_learning_rate=1e-12",
        "training.epochs=1",
    ]
    experiment = load_experiment(run / "experiment.yaml", changes, kinds=KINDS)
    run_ranks(train_run, 3, experiment, tmp_path / "fine")
    found = measured(run_ranks(evaluated, 2, tmp_path / "fine")[0]["rows"])
    assert found == pytest.approx(wanted, abs=2e-5)


LEARNED = ("model.unknown_id=learned", "model.hide_rare_items=2")


def silent_on_ids(run: Path) -> dict[str, Any]:
    """What a file of today would hold to make this run."""
    raw = plain(open_experiment(run))
    return raw | {
        "model": {key: of for key, of in raw["model"].items() if key not in ("unknown_id", "hide_rare_items")}
    }


def test_ids_stay_masked_in_a_run_that_knew_no_other_way(old_run):
    run = old_run("whole")
    assert open_experiment(run).model.unknown_id == "masked"
    kept = check_new_or_same(run, load_experiment(silent_on_ids(run), kinds=KINDS))
    assert kept is not None
    assert (kept.model.unknown_id, kept.model.hide_rare_items) == ("masked", 0)
    with pytest.raises(UserError, match=r"another experiment \(model.id_dropout: 0.0 there, 0.5 here\)"):
        check_new_or_same(run, load_experiment(silent_on_ids(run), ["model.id_dropout=0.5"], kinds=KINDS))


@pytest.mark.parametrize("asked", ["model.rates=True", *LEARNED])
def test_what_is_asked_for_of_a_run_that_knew_no_such_is_refused(old_run, asked: str):
    run = old_run("whole")
    key, _, value = asked.partition("=")
    with pytest.raises(UserError, match=rf"another experiment \({key}: .* there, .*{value}.* here\)"):
        check_new_or_same(run, load_experiment(silent_on_ids(run), [asked], kinds=KINDS))


def test_a_fine_tuning_learns_the_vector_of_unknown_ids(old_run, tmp_path: Path):
    run = old_run("whole")
    changes = [f"init_from={run}", *LEARNED, "model.id_dropout=0.5", "training.epochs=1"]
    experiment = load_experiment(silent_on_ids(run), changes, kinds=KINDS)
    run_ranks(train_run, 2, experiment, tmp_path / "fine")
    vector = "model.dense.represent.encoder.unknown_ids.item.vector"
    found = {vector: torch.zeros(experiment.model.width)}
    read_tensors(best(tmp_path / "fine"), found)
    assert found[vector].ne(0).all()
    run_ranks(evaluated, 1, tmp_path / "fine")
