"""What ``foundrank config`` prints."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from foundrank.data.config.load import dump_experiment, load_experiment
from foundrank.dist.cli.app import app
from foundrank.model.kinds import KINDS
from tests.tiny_world import experiment_dict


def printed(path: Path, *overrides: str) -> str:
    done = CliRunner().invoke(app, ["config", str(path), *(part for each in overrides for part in ("--set", each))])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def path(tmp_path: Path) -> Path:
    raw = experiment_dict() | {"model": {"expert_widths": [8, 4], "gate": "mean"}, "seed": 3}
    raw["entities"]["item"]["prompt"] = 'two\nlines: "#1" # and more'
    raw["context"]["yes"] = {"kind": "dense"}  # a name that YAML takes for a truth value
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.mark.parametrize("overrides", [(), ("model.head=star; text.vectors=none", "only=[home]")])
def test_it_loads_again_to_the_same_experiment(path, overrides):
    again = path.with_name("again.yaml")
    again.write_text(printed(path, *overrides))
    assert load_experiment(again, kinds=KINDS) == load_experiment(path, overrides, kinds=KINDS)


def test_each_value_has_its_source(path):
    page = printed(path, "model.head=ple; model.dropout=0.3; training.epochs=1")
    for line in (
        "seed: 3  # file",
        "    kind: mean  # file",
        "  width: 64  # default",
        "    head: ple  # --set",
        "    widths: [8, 4]  # file, as model.expert_widths",
        "    experts: 4  # default",
        "    dropout: 0.3  # --set",
        "  epochs: 1  # --set",
    ):
        assert line in page.splitlines(), line


def test_it_prints_a_runs_experiment(path):
    run = path.parent / "run"
    run.mkdir()
    experiment = load_experiment(path, kinds=KINDS)
    (run / "experiment.yaml").write_text(dump_experiment(experiment))
    (run / "again.yaml").write_text(printed(run))
    assert load_experiment(run / "again.yaml", kinds=KINDS) == experiment
