"""Labels by a condition, weights, negatives left out and a chain, on two ranks from training to scores."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.data.schema.labels import read_labels
from foundrank.dist.capacity.describe import describe
from foundrank.dist.evaluate.evaluate import evaluate_run
from foundrank.dist.evaluate.prepare import prepare_evaluation
from foundrank.dist.fine_tuning.pretrained import pretrained
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.report.report import write_report
from foundrank.dist.score.score import RowScorer, model_of
from foundrank.dist.score.scoring_input import ScoringJob
from foundrank.model.kinds import KINDS
from foundrank.model.tasks.metrics import auc, calibration, logloss

from .harness import run_ranks
from .rank_work import train_run
from .small_events import write_events, write_experiment

TASKS = {
    "click": {"label": "clicked", "negative_rate": 0.5},
    "buy": {"label": {"column": "action", "equals": "buy"}, "given": "click"},
    "long": {"label": {"column": "watched", "at_least": 30}, "sample_weight": "trust"},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events with an action after each click (none: null), a time, and two columns of weights."""
    folder = tmp_path_factory.mktemp("labels")
    write_events(folder)
    for number, file in enumerate(sorted((folder / "events").iterdir())):
        table, random = pq.read_table(file), np.random.default_rng(number)
        clicked, rows = table["clicked"].to_numpy() > 0, table.num_rows
        action = np.where(table["item_id"].to_numpy() % 2, "buy", "look").astype(object)
        columns = {
            "action": pa.array(action, mask=~clicked),
            "watched": pa.array(random.uniform(0, 60, rows), mask=random.random(rows) < 0.1),
            "trust": pa.array(random.integers(0, 4, rows)),
            "odds": pa.array(random.uniform(0.5, 1.5, rows), mask=random.random(rows) < 0.2),
        }
        for name, column in columns.items():
            table = table.append_column(name, column)
        pq.write_table(table, file, row_group_size=100)
    raw = json.loads(write_experiment(folder).read_text())
    raw["domains"]["home"] |= {"tasks": TASKS, "sample_weight": "odds", "weighted_metrics": True}
    raw["training"] |= {"epochs": 3}
    (folder / "experiment.yaml").write_text(json.dumps(raw))
    return folder


def whole(runtime: Runtime, experiment: Experiment, run: Path) -> tuple[dict[str, Any], pa.Table]:
    train_run(runtime, experiment, run)
    evaluated = evaluate_run(runtime.on_main(lambda: prepare_evaluation(run, "test", KINDS)), runtime)
    encoder, model, _ = model_of(run, runtime, KINDS)
    scorer = RowScorer(model, encoder, runtime, ScoringJob(run, "rows", "", "home"))
    return evaluated, scorer.score_table(pq.read_table(str(experiment.domains["home"].events.test)), "rows")[0]


@pytest.fixture(scope="module")
def trained(world) -> tuple[Path, dict[str, Any], pa.Table]:
    return world / "run", *run_ranks(whole, 2, load_experiment(world, kinds=KINDS), world / "run")[0]


def test_metrics_are_those_of_the_scores_the_labels_and_their_weights(world, trained):
    _, evaluated, scores = trained
    experiment, table = load_experiment(world, kinds=KINDS), pq.read_table(world / "events/home_test.parquet")
    for task, weights in (("click", "odds"), ("buy", "odds"), ("long", "trust")):
        labels, predicted = read_labels(experiment.domains["home"], task, table), scores[f"score_{task}"].to_numpy()
        known, weight = ~np.isnan(labels), np.nan_to_num(table[weights].to_numpy().astype(float), nan=1.0)
        of = labels[known], predicted[known], weight[known]
        (row,) = [r for r in evaluated["rows"] if (r["domain"], r["task"], r["slice"]) == ("home", task, "all")]
        assert (row["rows"], row["positives"]) == (known.sum(), of[0].sum())
        assert row["weight"] == pytest.approx(of[2].sum())
        for name, metric in (("auc", auc), ("calibration", calibration), ("logloss", logloss)):
            assert row[name] == pytest.approx(metric(*of), rel=1e-4), (task, name)
            assert row[name] != pytest.approx(metric(*of[:2]), rel=1e-4), (task, name)
    (feed,) = [r for r in evaluated["rows"] if (r["domain"], r["slice"]) == ("feed", "all")]
    assert "weight" not in feed
    assert known.sum() < len(known)  # some have no label
    assert np.isnan(read_labels(experiment.domains["home"], "buy", table)).sum() == 0  # not clicked: not bought


def test_a_chains_score_is_of_both_and_no_impression_is_bought_more_than_clicked(trained):
    _, _, scores = trained
    assert (scores["score_buy"].to_numpy() < scores["score_click"].to_numpy()).all()


def test_the_log_and_describe_tell_of_all_labels_and_of_the_weights(world, trained):
    run, *_ = trained
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert set(lines[-1]["losses"]) == {"home/click", "home/buy", "home/long", "feed/click"}
    assert 0 < lines[-1]["loss"] < lines[0]["loss"] < 1
    assert "In home rows count by their weights" in write_report(run).read_text()
    out = io.StringIO()
    describe(load_experiment(world, kinds=KINDS), Console(file=out, width=300, no_color=True))
    assert re.search(r"odds [01]\.\d*, \d+\.\d% null; trust 1\.\d*, [23]\d\.\d% zero", out.getvalue())


def test_a_fine_tuning_may_change_weights_rates_and_conditions_but_not_what_a_task_is_given(world, trained):
    run, *_ = trained
    changes = [f"init_from={run}", "domains.home.sample_weight=trust", "domains.home.tasks.click.negative_rate=1.0"]
    changes += ["domains.home.tasks.long.label={column: watched, above: 10}"]
    assert pretrained(load_experiment(world, changes, kinds=KINDS)).run == run
    alone = load_experiment(world, [f"init_from={run}", "domains.home.tasks.buy.given=null"], kinds=KINDS)
    with pytest.raises(UserError, match="task 'buy' of another kind, or with other settings"):
        pretrained(alone)
