"""A kind of task of one's own, a class and an entry: checked, trained beside binary tasks, chosen by, evaluated, scored and shown."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import dump_experiment, load_experiment
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from foundrank.dist.capacity.describe import describe
from foundrank.dist.evaluate.evaluate import evaluate_run
from foundrank.dist.evaluate.measures import measured_by
from foundrank.dist.evaluate.prepare import prepare_evaluation
from foundrank.dist.fine_tuning.pretrained import pretrained
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.report.report import write_report
from foundrank.dist.report.terminal_tables import print_evaluation
from foundrank.dist.score.score import RowScorer, model_of
from foundrank.dist.score.scoring_input import ScoringJob
from foundrank.model.kinds import KINDS

from ..toy_task import Amount
from .harness import run_ranks
from .rank_work import train_run
from .small_events import write_events, write_experiment

OWN = KINDS.with_(tasks={"amount": Amount})
SPENT = {"kind": "amount", "label": "spent", "unit": 20.0}
MEAN = 30.0
DOMAINS = {"home": ("click", "spent"), "feed": ("spent",)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events that say what was spent: what follows from the item, null in some rows; ``feed`` has no other task."""
    folder = tmp_path_factory.mktemp("spent")
    write_events(folder)
    for file in (folder / "events").iterdir():
        table = pq.read_table(file)
        spent = MEAN + 4.0 * (table["item_id"].to_numpy() - 6)
        unknown = table["user_id"].to_numpy() % 5 == 0
        pq.write_table(table.append_column("spent", pa.array(spent, mask=unknown)), file, row_group_size=100)
    raw = json.loads(write_experiment(folder).read_text())
    for name, tasks in DOMAINS.items():
        raw["domains"][name]["tasks"] = {task: {"label": "clicked"} if task == "click" else SPENT for task in tasks}
        raw["domains"][name]["events"]["validation"] = raw["domains"][name]["events"]["test"]
    raw["training"] |= {"keep_best": True, "epochs": 4}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return folder


def whole(runtime: Runtime, experiment: Experiment, run: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Trains and evaluates on all ranks, scores the test rows on each; the evaluation, and domain -> scores of what was spent."""
    train_run(runtime, experiment, run)
    evaluated = evaluate_run(runtime.on_main(lambda: prepare_evaluation(run, "test", OWN)), runtime)
    encoder, model, _ = model_of(run, runtime, OWN)
    scores = {}
    for domain, config in experiment.domains.items():
        scorer = RowScorer(model, encoder, runtime, ScoringJob(run, "rows", "", domain))
        table, _ = scorer.score_table(pq.read_table(str(config.events.test)), "rows")
        scores[domain] = table["score_spent"].to_numpy()
    return evaluated, scores


@pytest.fixture(scope="module")
def runs(world) -> dict[int, tuple[Path, dict[str, Any], dict[str, np.ndarray]]]:
    """Number of ranks -> run folder, evaluation and scores."""
    experiment = load_experiment(world, kinds=OWN)
    return {n: (world / f"run{n}", *run_ranks(whole, n, experiment, world / f"run{n}")[0]) for n in (1, 2)}


@pytest.mark.parametrize("ranks", [1, 2])
def test_scores_are_on_the_labels_scale_and_measured_by_the_kind(world, runs, ranks):
    _, evaluated, scores = runs[ranks]
    for domain in DOMAINS:
        spent = pq.read_table(world / f"events/{domain}_test.parquet")["spent"].to_numpy()
        known = ~np.isnan(spent)
        (row,) = [r for r in evaluated["rows"] if (r["domain"], r["task"], r["slice"]) == (domain, "spent", "all")]
        error = np.sqrt(np.mean((scores[domain][known] - spent[known]) ** 2))
        assert row["rows"] == known.sum()
        assert row["rmse"] == pytest.approx(error, rel=1e-5)
        assert row["r2"] == pytest.approx(1 - error**2 / spent[known].var(), rel=1e-4)
        assert row["popularity_rmse"] < spent[known].std()  # the item's own mean: it decides what is spent
        assert row["oracle_rmse"] is None
        assert row["r2"] > 0.2  # it has learned
        assert "auc" not in row
    (click,) = [r for r in evaluated["rows"] if (r["task"], r["slice"]) == ("click", "all")]
    assert click["auc"] is not None
    assert "rmse" not in click
    validated = [json.loads(line) for line in (runs[ranks][0] / "metrics.jsonl").read_text().splitlines()]
    assert set(validated[-1]["losses"]) == {"home/click", "home/spent", "feed/spent"}


def test_ranks_agree_on_the_first_loss(runs):
    first = [json.loads((run / "metrics.jsonl").read_text().splitlines()[0]) for run, *_ in runs.values()]
    assert first[0]["step"] == first[1]["step"]
    assert {0 < loss < 10 for line in first for loss in line["losses"].values()} == {True}


def test_a_checkpoint_is_chosen_by_the_mean_of_what_its_kinds_say(runs):
    run, *_ = runs[1]
    best = json.loads((run / "best.json").read_text())
    rows = [r for r in json.loads((run / "validation.json").read_text())["rows"] if r["slice"] == "all"]
    found = {}
    for step in {row["step"] for row in rows}:
        of_step = [row for row in rows if row["step"] == step]
        values = [row["auc"] if row["task"] == "click" else row["r2"] for row in of_step]
        weights = [
            min(row["positives"], row["rows"] - row["positives"]) if row["task"] == "click" else row["rows"]
            for row in of_step
        ]
        found[step] = np.average(values, weights=np.sqrt(weights))
    assert best["validation"] == pytest.approx(max(found.values()))
    assert found[best["step"]] == max(found.values())


def test_terminal_and_report_show_what_the_kind_says(world, runs):
    run, evaluated, _ = runs[1]
    out = io.StringIO()
    print_evaluation(evaluated["rows"], measured_by(evaluated), Console(file=out, width=100, no_color=True))
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert "domain rows RMSE oracle popular cold RMSE R²" in lines
    assert "domain rows AUC oracle popular cold AUC GAUC NDCG@10 calib." in lines
    (row,) = [r for r in evaluated["rows"] if (r["domain"], r["task"], r["slice"]) == ("feed", "spent", "all")]
    assert f"feed {row['rows']} {row['rmse']:.3f} – {row['popularity_rmse']:.3f} – {row['r2']:.4f}" in lines
    words = " ".join(re.sub(r"<[^>]*>", " ", write_report(run).read_text()).split())
    for expected in ("AUC or RMSE per domain", "Popularity predicts the item's own mean", "fewer than 50 positives or rows", f"{row['rmse']:.3f}"):  # fmt: skip
        assert expected in words.replace("&#39;", "'"), expected
    out = io.StringIO()
    describe(load_experiment(world, kinds=OWN), Console(file=out, width=200, no_color=True))
    assert "positives or means in training" in out.getvalue()
    assert re.search(r"spent 3\d\.\d\d", out.getvalue())


@pytest.mark.parametrize(("value", "told"), [(-3.0, "the label is -3"), (-0.5, "the label is -0.5")])
def test_a_bad_label_is_told_before_anything_starts(world, tmp_path, value, told):
    table = pq.read_table(world / "events/feed_train.parquet")
    spent = table["spent"].to_pylist()
    spent[7] = value
    at = table.column_names.index("spent")
    pq.write_table(table.set_column(at, "spent", pa.array(spent)), tmp_path / "bad.parquet", row_group_size=5)
    changed = load_experiment(world, [f"domains.feed.events.train={tmp_path / 'bad.parquet'}"], kinds=OWN)
    with pytest.raises(UserError) as error:
        check_events(changed)
    assert "column 'spent', row 2 of row group 1" in error.value.where
    assert (error.value.what, error.value.remedy) == (told, "Amounts are from 0 up, or null.")


def test_a_task_is_the_same_in_all_domains_that_have_it(world):
    for change in ("spent={label: clicked}", "spent={kind: amount, label: spent, unit: 7}"):
        with pytest.raises(UserError, match=r"domains\.feed\.tasks\.spent: is not the task of that name"):
            load_experiment(world, [f"domains.feed.tasks.{change}"], kinds=OWN)


def test_a_fine_tuning_goes_on_with_the_kind_there_was(world, runs):
    run, *_ = runs[1]
    again = load_experiment(world, [f"init_from={run}"], kinds=OWN)
    spent = pretrained(again).experiment.domains["feed"].tasks["spent"]
    assert isinstance(spent, Amount)
    assert spent.model_dump() == Amount(label="spent", unit=20.0).model_dump()
    changes = [f"init_from={run}", "only=[feed]", "domains.feed.tasks={spent: {label: clicked}}"]
    other = load_experiment(world, [*changes, "domains.home.tasks={click: {label: clicked}}"], kinds=OWN)
    with pytest.raises(UserError, match="task 'spent'"):
        pretrained(other)


def test_a_run_says_of_which_kind_its_tasks_are(world, runs):
    run, *_ = runs[1]
    raw = yaml.safe_load((run / "experiment.yaml").read_text())
    assert raw["domains"]["home"]["tasks"]["spent"] == SPENT | {"weight": 1.0}
    assert raw["domains"]["home"]["tasks"]["click"]["kind"] == "binary"
    assert yaml.safe_load(dump_experiment(load_experiment(run / "experiment.yaml", kinds=OWN))) == raw
    with pytest.raises(UserError, match="'amount'"):
        load_experiment(run / "experiment.yaml", kinds=KINDS)
