"""Every command that writes into a folder leaves at once where another job holds it, before it reads or writes anything."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import foundrank
from foundrank.dist.cli.app import app
from foundrank.dist.lease.lease import BESIDE_TRAINING, LEASE, Claim, Held, holding

from ....tiny_world import random_events, write_world


def refused(*arguments: object) -> bool:
    """Whether a command leaves because its folder is held."""
    return isinstance(CliRunner().invoke(app, list(map(str, arguments))).exception, Held)


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "nothing", "nothing.parquet", "FOLDER"),
        ("recommend", "nothing", "nothing.parquet", "FOLDER"),
        ("simulate", "FOLDER"),
        ("import", "movietweetings", "nothing", "FOLDER"),
        ("study", "FOLDER", "--only", "nothing"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_folder_that_is_written_is_held(tmp_path: Path, arguments: tuple[str, ...]):
    words = [str(tmp_path) if one == "FOLDER" else one for one in arguments]
    with holding(Claim(tmp_path, "train"), pytest.fail):
        assert refused(*words)
    assert not refused(*words)


def test_a_run_is_held_by_its_training_and_apart_from_that_by_what_measures_it(tmp_path: Path):
    write_world(tmp_path / "world", random_events(0, {"find": 20, "feed": 20, "new": 20}))
    run = tmp_path / "run"
    with holding(Claim(run, "train"), pytest.fail):
        assert refused("train", tmp_path / "world", "--run-dir", run)
        assert not refused("evaluate", run)
        with pytest.raises(Held, match="`foundrank train` on host"):
            foundrank.train(tmp_path / "world", run)
    with holding(Claim(run, "evaluate", BESIDE_TRAINING), pytest.fail):
        assert refused("evaluate", run)
        with pytest.raises(Held, match="`foundrank evaluate` on host"):
            foundrank.evaluate(run)


def test_a_text_store_is_held_while_it_is_written(tmp_path: Path):
    experiment = write_world(tmp_path, random_events(0, {"find": 20, "feed": 20, "new": 20}))
    with holding(Claim(experiment.text.store, "embed", LEASE), pytest.fail):
        assert refused("embed", tmp_path)
        with pytest.raises(Held):
            foundrank.embed(experiment)
