"""`foundrank import`: each importer has its own options, and a mistake is told before anything is read."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from foundrank.data.config.load import load_experiment
from foundrank.data.sources.importers import HOLDING_OUT, IMPORTERS
from foundrank.dist.cli.app import app
from foundrank.model.kinds import KINDS
from tests.importer_sources import SOURCES


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


@pytest.mark.parametrize("name", sorted(HOLDING_OUT))
def test_items_are_held_out_where_an_importer_can(tmp_path: Path, name: str):
    source = SOURCES[name.replace("-", "_")](tmp_path / "source")
    told = run(name, source, tmp_path / "out", "--unseen-items", "0.2")
    assert told.exit_code == 0
    assert "next: foundrank embed" in told.output
    assert "--unseen-items 0.2" in (tmp_path / "out/experiment.yaml").read_text()


@pytest.mark.parametrize("name", sorted(IMPORTERS.keys() - HOLDING_OUT.keys()))
def test_options_of_other_importers_are_refused(tmp_path: Path, name: str):
    told = run(name, tmp_path, tmp_path / "out", "--unseen-items", "0.2")
    assert told.exit_code == 2
    assert "No such option" in told.output
    assert list(tmp_path.iterdir()) == []


def test_plain_logs_are_imported_as_their_options_say(tmp_path: Path):
    SOURCES["sequences"](tmp_path / "lists")
    told = run("sequences", tmp_path / "lists", tmp_path / "a", "--max-length", "4")
    assert told.exit_code == 0
    assert "next: foundrank train" in told.output
    assert load_experiment(tmp_path / "a", kinds=KINDS).entities.user.history.max_length == 4
    SOURCES["interactions"](tmp_path / "table")
    options = ("--rating", "rating", "--liked-from", "4", "--split", "leave-one-out")
    assert run("interactions", tmp_path / "table", tmp_path / "b", *options).exit_code == 0
    assert list(load_experiment(tmp_path / "b", kinds=KINDS).domains["interactions"].tasks) == ["liked"]
    (tmp_path / "log.txt").write_text("1 2 3 4 5\n1 2 3 4 5 6\n")
    assert run("sequences", tmp_path / "log.txt", tmp_path / "c", "--no-user").exit_code == 0


def test_a_text_without_a_catalog_is_refused(tmp_path: Path):
    told = run("sequences", tmp_path, tmp_path / "out", "--text", "{title}")
    assert told.exit_code == 2
    assert "needs --catalog" in told.output
