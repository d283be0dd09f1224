"""The benchmark of two versions: what it makes of comparisons, and that it mistrusts a version that reads old runs otherwise."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import against
from foundrank.data.errors import UserError
from foundrank.dist.run.run_folder import EVALUATION


def row(part: str, metric: str, first: float, other: float, task: str = "liked", domain: str = "mean") -> dict:
    change = other - first
    return {
        "arm": "now", "task": task, "domain": domain, "slice": part, "metric": metric, "rows": 10, "users": 5,
        "first": first, "other": other, "difference": change, "low": change - 0.01, "high": change + 0.02,
    }  # fmt: skip


ROWS = [
    row("all", "auc", 0.5, 0.9, domain="films"),
    row("all", "auc", 0.7, 0.72),
    row("cold_items", "auc", 0.6, 0.64),
    row("all", "logloss", 0.5, 0.49),
]


def test_the_mean_over_most_is_told():
    mean = row("all", "auc", 0.8, 0.81, task="mean")
    assert against.overall(ROWS, "all", "auc") == ROWS[1]
    assert against.overall([*ROWS, mean], "all", "auc") == mean
    assert against.overall(ROWS, "warm_items", "auc") is None


def test_the_mean_over_data_sets_has_a_narrower_interval():
    assert against.mean_of([(0.02, 0.01, 0.04)]) == pytest.approx((0.02, 0.01, 0.04))
    mean, low, high = against.mean_of([(0.02, 0.01, 0.04), (0.04, 0.03, 0.06)])
    assert (mean, low, high) == pytest.approx((0.03, 0.03 - 0.01 / 2**0.5, 0.03 + 0.02 / 2**0.5))


def test_a_section_tells_every_slice_and_the_mean():
    calibrations = {"films": {"base": {"liked": 1.1}, "now": {"liked": 1.02}}}
    text = against.section({"films": ROWS, "shop": [row("all", "auc", 0.6, 0.7)]}, calibrations, 5)
    assert "| films | all | AUC | 0.7000 | 0.7200 | +0.0200 [+0.0100, +0.0400] |" in text
    assert "| films | cold items | AUC | 0.6000 | 0.6400 | +0.0400 " in text
    assert "| films | all | calibration of liked | 1.100 | 1.020 | |" in text
    assert "| **mean of 2** | all | AUC | | | +0.0600 [" in text
    assert "| **mean of 1** | cold items | AUC" in text


@pytest.mark.parametrize("measured", [0.5, 0.6])
def test_runs_that_are_read_otherwise_are_told(tmp_path: Path, measured: float):
    runs = [tmp_path / "one", tmp_path / "two"]
    for run in runs:
        run.mkdir()
        lines = [
            {"domain": "films", "task": "liked", "slice": "all", "rows": 10, "auc": measured, "calibration": 1.1},
            {"domain": "shows", "task": "liked", "slice": "all", "rows": 10, "auc": 0.9, "calibration": 0.9},
            {"domain": "films", "task": "liked", "slice": "cold_items", "rows": 10, "auc": 0.9, "calibration": 3.0},
        ]
        (run / EVALUATION).write_text(json.dumps({"rows": lines}))
    assert against.calibration_of(runs) == {"liked": pytest.approx(1.0)}
    if measured == 0.5:
        against.check_read_alike(ROWS, runs)
    else:
        with pytest.raises(UserError, match=r"films, liked, auc: was 0.6000 .* is 0.5000"):
            against.check_read_alike(ROWS, runs)


def test_a_data_set_there_is_not(tmp_path: Path):
    app = typer.Typer()
    app.command()(against.against)
    told = CliRunner().invoke(app, ["--base", str(tmp_path), "--source", str(tmp_path), "--only", "movietweeting"])
    assert "Did you mean 'movietweetings'" in str(told.exception)
