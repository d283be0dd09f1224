"""Tasks of every shipped kind beside each other: trained on two ranks, evaluated, scored, shown, and fine-tuned from clicks alone."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.dist.capacity.describe import describe
from foundrank.dist.evaluate.evaluate import evaluate_run
from foundrank.dist.evaluate.measures import measured_by
from foundrank.dist.evaluate.prepare import prepare_evaluation
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.report.report import write_report
from foundrank.dist.report.terminal_tables import print_evaluation
from foundrank.dist.run.run_folder import open_run
from foundrank.dist.score.score import RowScorer, model_of
from foundrank.dist.score.scoring_input import ScoringJob
from foundrank.model.kinds import KINDS

from .harness import run_ranks
from .rank_work import train_run
from .small_events import write_events, write_experiment

TASKS: dict[str, dict[str, Any]] = {
    "watched": {"kind": "regression", "label": "seconds", "expected": "true_seconds"},
    "most": {"kind": "regression", "label": "seconds", "loss": "quantile", "quantile": 0.9},
    "stars": {"kind": "ordinal", "label": "stars"},
    "spend": {"kind": "value", "label": "cents"},
    "units": {"kind": "count", "label": "units"},
}
DOMAINS = {"home": ("watched", "most", "stars", "spend", "units"), "feed": ("watched", "spend")}
LABEL_OF = {task: str(config["label"]) for task, config in TASKS.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of very different sizes that follow from the item, null in some rows."""
    folder = tmp_path_factory.mktemp("kinds")
    write_events(folder)
    for at, file in enumerate(sorted((folder / "events").iterdir())):
        random, table = np.random.default_rng(at), pq.read_table(file)
        good = (table["item_id"].to_numpy() - 6.5) / 3.5
        unknown, rows = table["user_id"].to_numpy() % 5 == 0, len(good)
        seconds = 4000 + 900 * good
        cents = np.exp(8 + 0.5 * good + 0.3 * random.standard_normal(rows)) * (random.random(rows) < 0.6)
        columns = {
            "seconds": pa.array(seconds + 300 * random.standard_normal(rows), mask=unknown),
            "true_seconds": pa.array(seconds),
            "stars": pa.array(np.clip(np.round(3 + good + 0.5 * random.standard_normal(rows)), 1, 5).astype(np.int8)),
            "cents": pa.array(np.round(cents).astype(np.int64)),
            "units": pa.array(random.poisson(np.exp(0.5 * good + 0.5))),
            "place": pa.array(np.arange(rows) // 5),
        }
        for name, values in columns.items():
            table = table.append_column(name, values)
        pq.write_table(table, file, row_group_size=100)
    raw = json.loads(write_experiment(folder).read_text())
    for name, tasks in DOMAINS.items():
        raw["domains"][name] |= {"tasks": {task: TASKS[task] for task in tasks}, "list_column": "place"}
    raw["training"] |= {"epochs": 4, "precision": "bf16", "learning_rate": 0.01}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return folder


def whole(runtime: Runtime, experiment: Experiment, run: Path) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """Trains and evaluates; the evaluation, and domain -> scores of its test rows."""
    train_run(runtime, experiment, run)
    evaluated = evaluate_run(runtime.on_main(lambda: prepare_evaluation(run, "test")), runtime)
    encoder, model, _ = model_of(run, runtime)
    scores = {}
    for domain, config in experiment.domains.items():
        scorer = RowScorer(model, encoder, runtime, ScoringJob(run, "rows", "", domain))
        scores[domain], _ = scorer.score_table(pq.read_table(str(config.events.test)), "rows")
    return evaluated, scores


@pytest.fixture(scope="module")
def trained(world) -> tuple[Path, dict[str, Any], dict[str, pa.Table]]:
    """On two ranks, in bf16."""
    return world / "run", *run_ranks(whole, 2, load_experiment(world, kinds=KINDS), world / "run")[0]


def test_scores_have_the_labels_unit_and_are_measured_as_their_kind_says(world, trained):
    _, evaluated, scores = trained
    experiment = load_experiment(world, kinds=KINDS)
    for domain, names in DOMAINS.items():
        events = pq.read_table(world / f"events/{domain}_test.parquet")
        for name in names:
            labels = events[LABEL_OF[name]].to_numpy().astype(np.float32)
            known = ~np.isnan(labels)
            found = scores[domain][f"score_{name}"].to_numpy()[known]
            lists = events["place"].to_numpy().astype(np.uint64)[known]
            (row,) = [r for r in evaluated["rows"] if (r["domain"], r["task"], r["slice"]) == (domain, name, "all")]
            for metric, wanted in (
                experiment.domains[domain].tasks[name].metrics(labels[known], found, None, lists).items()
            ):
                # One process scores other rows together than two do, and bf16 rounds what it sums.
                np.testing.assert_allclose(
                    row[metric], wanted, rtol=0.03, atol=0.03, err_msg=f"{domain} {name} {metric}"
                )
            assert row[f"popularity_{experiment.domains[domain].tasks[name].measures.headline.key}"] is not None
            if name != "most":
                assert 0.8 < row["calibration"] < 1.25
                assert row["spearman"] > 0.2
    watched = [r for r in evaluated["rows"] if r["task"] == "watched" and r["slice"] == "all"]
    assert all(200 < row["oracle_rmse"] < 400 and row["oracle_rmse"] < row["rmse"] < 900 for row in watched)


def test_terminal_report_and_describe_show_every_kind(world, trained):
    run, evaluated, _ = trained
    out = io.StringIO()
    print_evaluation(evaluated["rows"], measured_by(evaluated), Console(file=out, width=100, no_color=True))
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert max(map(len, out.getvalue().splitlines())) <= 100
    for named in ("RMSE oracle popular cold RMSE R² Spearman calib. NDCG@10", "pinball oracle popular", "Gini oracle", "deviance oracle"):  # fmt: skip
        assert any(named in line for line in lines), (named, lines)
    report = write_report(run).read_text()
    assert "Predictions and labels" in report
    assert "Mean label against mean prediction" in report
    out = io.StringIO()
    describe(load_experiment(world, kinds=KINDS), Console(file=out, width=200, no_color=True))
    assert "watched 4" in out.getvalue()


def test_a_run_of_clicks_learns_further_kinds_and_they_keep_their_scale(world, trained, tmp_path):
    short = ["training.epochs=1", "training.log_every=1"]
    clicks = [f"domains.{name}.tasks={{click: {{label: clicked}}}}" for name in DOMAINS]
    run_ranks(train_run, 1, load_experiment(world, [*short, *clicks], kinds=KINDS), tmp_path / "clicks")
    added = [f"domains.feed.tasks.{task}={json.dumps(config)}" for task, config in TASKS.items()]
    tuned = load_experiment(world, [*short, *clicks, *added, f"init_from={tmp_path / 'clicks'}"], kinds=KINDS)
    run_ranks(train_run, 1, tuned, tmp_path / "tuned")
    lines = [json.loads(line) for line in (tmp_path / "tuned" / "metrics.jsonl").read_text().splitlines()]
    losses = [loss for line in lines for name, loss in line["losses"].items() if name.startswith("feed/")]
    assert all(math.isfinite(loss) and loss < 10 for loss in losses)
    # The same task on other data: its logits go on meaning what they meant.
    cheaper = load_experiment(world, [*short, "only=[feed]", f"init_from={trained[0]}"], kinds=KINDS)
    run_ranks(train_run, 1, cheaper, tmp_path / "cheaper")
    then, now, alone = (open_run(run)[1].scales for run in (trained[0], tmp_path / "cheaper", tmp_path / "tuned"))
    assert now == {task: then[task] for task in DOMAINS["feed"]}
    assert alone["watched"] != now["watched"]
