"""What predicts no number is refused, or told: never a NaN in an output."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.bad_data import BadDataConfig
from foundrank.data.errors import UserError
from foundrank.dist.fine_tuning.begin import begin_from
from foundrank.dist.fine_tuning.pretrained import pretrained
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.run.checkpoint_writer import Checkpoints, load_newest
from foundrank.dist.score.recommend_input import RecommendJob
from foundrank.dist.score.scoring_input import ScoringJob
from foundrank.dist.sharding.shard import shard
from foundrank.dist.train.optimizer import Optimizer
from foundrank.model.kinds import KINDS

from .harness import run_ranks
from .rank_work import evaluate_test, make_encoder, run_recommending, run_scoring, train_run

HUGE = 9e29  # a number that may be in the data, and that no product survives
ROWS = 120


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder, random = tmp_path_factory.mktemp("huge"), np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        ages = random.normal(40, 10, ROWS)
        if split == "test":
            ages[[5, 70]] = HUGE, -HUGE
        past = [[int(i) for i in random.integers(1, 9, 3)] for _ in range(ROWS)]
        table = {"user": random.integers(0, 9, ROWS), "item": random.integers(1, 9, ROWS), "age": ages}
        table |= {"clicked": random.integers(0, 2, ROWS), "history": pa.array(past, pa.list_(pa.int64()))}
        pq.write_table(pa.table(table), folder / f"{split}.parquet", row_group_size=50)
    prices = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, HUGE]  # of an item that no event shows
    pq.write_table(pa.table({"item": np.arange(1, 10), "price": prices}), folder / "items.parquet")
    history = {"encoder": "sasrec", "layers": 1, "heads": 1, "features": ["price"]}
    raw = {
        "name": "huge",
        "entities": {
            "user": {"id": "user", "history": {"column": "history"}},
            "item": {"id": "item", "catalog": {"path": "items.parquet", "key": "item"}, "features": {"price": {"kind": "dense"}}},
        },
        "context": {"age": {"kind": "dense"}},
        "domains": {
            "home": {
                "kind": "recommendation",
                "events": {split: f"{split}.parquet" for split in ("train", "validation", "test")},
                "tasks": {"click": {"label": "clicked"}},
            }
        },
        "model": {"width": 8, "embedding_dim": 8, "expert_widths": [8], "tower_widths": [4], "experts": 2, "domain_width": 8,
                  "history": history, "next_item": {"negatives": 4}},
        "training": {"batch_size": 32, "epochs": 1},
    }  # fmt: skip
    (folder / "experiment.yaml").write_text(json.dumps(raw))
    return load_experiment(folder, kinds=KINDS)


@pytest.fixture(scope="module")
def run(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    run_ranks(train_run, 1, experiment, run)
    return run


def scored(runtime: Runtime, run: Path, source: Path, out: Path) -> tuple[int, int]:
    summary = run_scoring(ScoringJob(run, str(source), str(out), "home"), runtime)
    rows, overflowed = summary["rows"], summary["why"]["no_number"]
    return rows, overflowed


def test_a_row_too_large_to_predict_has_no_score_and_is_counted(experiment, run, tmp_path):
    source = experiment.domains["home"].events.test
    for ranks in (1, 2):
        found = run_ranks(scored, ranks, run, source, tmp_path / f"out{ranks}")
        assert found == [(ROWS, 2)] * ranks
        parts = sorted((tmp_path / f"out{ranks}").glob("part-*"))
        scores = pa.concat_tables(map(pq.read_table, parts))["score_click"]
        assert np.flatnonzero(scores.is_null().to_numpy()).tolist() == [5, 70]
        known = scores.drop_null().to_numpy()
        assert ((known >= 0) & (known <= 1)).all()


def evaluated(runtime: Runtime, run: Path) -> dict:
    return evaluate_test(run, runtime)


def test_an_evaluation_leaves_it_out_and_counts_it(run):
    (result,) = run_ranks(evaluated, 1, run)
    (row,) = [row for row in result["rows"] if row["slice"] == "all"]
    assert (row["rows"], row["overflowed"]) == (ROWS - 2, 2)
    assert row["auc"] is not None
    text = (run / "evaluation.json").read_text()
    assert not any(word in text for word in ("NaN", "Infinity"))
    assert result["gates"]


def recommended(runtime: Runtime, run: Path, source: Path, out: Path) -> tuple[int, int]:
    _, _, users, items = run_recommending(
        RecommendJob(run, str(source), str(out), 50, repeat=True, policy=BadDataConfig()), runtime
    )
    return users, items


def test_an_item_too_large_to_compute_with_is_not_recommended_and_counted(experiment, run, tmp_path):
    ((users, items),) = run_ranks(recommended, 1, run, experiment.domains["home"].events.test, tmp_path / "out")
    assert (users, items) == (0, 1)
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert all(sorted(row["items"]) == list(range(1, 9)) for row in rows)
    assert np.isfinite([row["scores"] for row in rows]).all()


def ruined(runtime: Runtime, experiment: Experiment, run: Path) -> None:
    """Saves a checkpoint with one weight that is NaN, as an older version would have done."""
    encoder = make_encoder(experiment)
    sharded = shard(encoder.layout, experiment, runtime)
    optimizer = Optimizer(sharded, experiment.training)
    state = load_newest(run, sharded, optimizer, runtime)
    assert state is not None
    dict(sharded.named_parameters())["dense.domain_embedding"].data.view(-1)[3] = torch.nan
    checkpoints = Checkpoints(run, 2, runtime)
    checkpoints.save(sharded, optimizer, state | {"step": state["step"] + 1, "validation": 1.0})
    checkpoints.wait()


def refused(runtime: Runtime, experiment: Experiment, run: Path, out: Path) -> list[str]:
    """What is said of a ruined model by each that would use it."""
    encoder = make_encoder(experiment)
    sharded = shard(encoder.layout, experiment, runtime)
    optimizer = Optimizer(sharded, experiment.training)
    source = str(experiment.domains["home"].events.test)
    again = experiment.model_copy(update={"init_from": run})
    told = []
    for work in (
        lambda: run_scoring(ScoringJob(run, source, str(out / "scores"), "home"), runtime),
        lambda: run_recommending(RecommendJob(run, source, str(out / "best")), runtime),
        lambda: evaluate_test(run, runtime),
        lambda: load_newest(run, sharded, optimizer, runtime),
        lambda: begin_from(pretrained(again), sharded, encoder, runtime),
    ):
        try:
            work()
            told.append("")
        except UserError as error:
            told.append(error.what)
    return told


def test_a_model_that_cannot_predict_is_refused_by_all_who_would_use_it(experiment, tmp_path):
    run = tmp_path / "run"
    run_ranks(train_run, 1, experiment, run)
    run_ranks(ruined, 1, experiment, run)
    for ranks in (1, 2):
        for of_rank in run_ranks(refused, ranks, experiment, run, tmp_path / f"out{ranks}"):
            assert ["holds values that are NaN or infinite" in what for what in of_rank] == [True] * 5, of_rank
        assert not list((tmp_path / f"out{ranks}").glob("*/part-*"))
