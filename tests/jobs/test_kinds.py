"""Labels of every kind, with the commands a user types, in a market whose truth is known: nearly as good as the truth itself."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from .commands import foundrank

# A task and what is the best that anybody can expect of its label.
NUMBERS = {"rating": "expected_rating", "dwell": "expected_dwell", "spend": "expected_spend", "units": "expected_units"}
BINARY = {"click": "p_click", "conversion": "p_click_conversion"}
# List losses and further settings of kinds, beside those that the market's experiment has.
FURTHER = (
    "domains.shelf.tasks.high_dwell={kind: regression, label: dwell, loss: quantile, quantile: 0.9}",
    "domains.shelf.tasks.usual_dwell={kind: regression, label: dwell, loss: huber, transform: log1p}",
    "domains.shelf.tasks.rare={label: {column: units, at_least: 4}, loss: focal, list_loss: jrc}",
    "domains.results.tasks.click.list_loss={kind: softmax, weight: 0.1}",
    "domains.results.tasks.longer={label: {column: dwell, above: 30}, list_loss: {kind: pairwise, lambda_weights: true}}",
    "domains.sampled.sample_weight=expected_units",
)
TRAIN = ["--set", "; ".join((*FURTHER, "training.checkpoint_every=300", "training.log_every=1"))]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds") / "market"
    foundrank("simulate", folder, "--world", "market")
    return folder


@pytest.fixture(scope="module")
def run(market: Path) -> Path:
    folder = market.parent / "run"
    foundrank("train", market, "--run-dir", folder, *TRAIN)
    foundrank("evaluate", folder)
    return folder


@pytest.fixture(scope="module")
def measured(run: Path) -> dict[tuple[str, str], dict]:
    """Domain and task -> the metrics of all rows."""
    rows = json.loads((run / "evaluation.json").read_text())["rows"]
    return {(row["domain"], row["task"]): row for row in rows if row["slice"] == "all"}


def scored(run: Path, market: Path, domain: str, *kept: str) -> pd.DataFrame:
    """Scores of a domain's test events, and columns of these."""
    out = run.parent / f"{run.name}-{domain}"
    events = market / "events" / domain / "test"
    foundrank("score", run, events, out, "--domain", domain, *(["--keep", ",".join(kept)] if kept else []))
    return pq.read_table(out).to_pandas()


def test_clicks_and_what_follows_them_are_ranked_as_the_truth_ranks_them(measured):
    for domain, task in (("shelf", "click"), ("shelf", "conversion"), ("sampled", "click"), ("kiosk", "click")):
        row = measured[domain, task]
        assert row["auc"] > row["oracle_auc"] - 0.01, (domain, task, row)
    assert measured["kiosk", "click"]["gauc"] is None  # nobody is known there


def test_clicks_that_were_downsampled_are_not_promised_too_often(measured):
    assert abs(measured["sampled", "click"]["calibration"] - 1) < 0.1  # 2.1 without the correction


def test_numbers_are_predicted_nearly_as_well_as_their_expectation_predicts_them(run, market):
    found = scored(run, market, "shelf", *NUMBERS, *NUMBERS.values(), *BINARY.values())
    for task, expected in (NUMBERS | BINARY).items():  # in the label's unit
        assert abs(found[f"score_{task}"].mean() / found[expected].mean() - 1) < 0.03, task
    for task, expected in NUMBERS.items():
        known = found[task].notna()
        errors = [
            np.sqrt(np.mean((found.loc[known, each] - found.loc[known, task]) ** 2))
            for each in (f"score_{task}", expected)
        ]
        assert errors[0] < 1.05 * errors[1], (task, errors)
    assert abs((found["dwell"] <= found["score_high_dwell"]).mean() - 0.9) < 0.03
    assert (found["score_usual_dwell"] < found["score_dwell"]).mean() > 0.9  # a typical one is below the mean


def test_scores_of_a_ranked_list_are_of_no_position_in_particular(run, market, tmp_path):
    found = scored(run, market, "results", "p_click_first", "position")
    assert found["score_click"].corr(found["p_click_first"], method="spearman") > 0.93
    without = pq.read_table(market / "events/results/test").drop_columns(["position"])
    pq.write_table(without, tmp_path / "rows.parquet")
    foundrank("score", run, tmp_path / "rows.parquet", tmp_path / "out", "--domain", "results")
    assert pq.read_table(tmp_path / "out")["score_click"].to_pylist() == found["score_click"].tolist()


def test_the_report_has_a_table_for_each_kind(run):
    page = (run / "report.html").read_text()
    for word in ("RMSE", "deviance", "Gini", "Spearman", "pinball", "AUC"):
        assert word in page


def test_a_training_of_every_kind_goes_on_where_it_was(run, market):
    again = run.parent / "again"
    shutil.copytree(run, again)
    steps = sorted(path.name for path in (again / "checkpoints").glob("step_*"))
    for name in steps[1:]:
        shutil.rmtree(again / "checkpoints" / name)
    foundrank("train", market, "--run-dir", again, *TRAIN)

    def lines(folder: Path) -> list:
        read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [(line["step"], line["losses"], line["list_losses"]) for line in read]

    assert lines(again) == lines(run)
    assert set(lines(run)[0][2]) == {"shelf/rare", "results/click", "results/longer"}


def test_a_fine_tuning_begins_with_what_was_learned_of_every_kind(run, market, measured):
    tuned = run.parent / "tuned"
    changes = f"init_from={run}; only=[shelf]; training.freeze=[L0, L1]; training.max_steps=5"
    foundrank("train", market, "--run-dir", tuned, *TRAIN, "--set", changes)
    foundrank("evaluate", tuned)
    for row in json.loads((tuned / "evaluation.json").read_text())["rows"]:
        if row["slice"] == "all" and row["task"] in NUMBERS:
            before = measured["shelf", row["task"]]
            assert row["spearman"] > before["spearman"] - 0.02
