"""A run that only finds the next item scores pairs that one names, with the numbers of its recommendations."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.load import load_experiment
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.score import score as score_module
from foundrank.dist.score.recommend_input import RecommendJob
from foundrank.dist.score.scoring_input import ScoringJob
from foundrank.model.kinds import KINDS

from .harness import run_ranks
from .rank_work import run_recommending, run_scoring, train_run

RAW = """
name: pairs
entities:
  user: {id: user, history: {column: history}}
  item:
    {id: item, catalog: {path: items.parquet, key: item}, contents: {look: {vector: look, size: 4}}, features: {price: {kind: dense}}}
domains:
  home: {kind: recommendation, events: {train: home.parquet}}
  feed: {kind: recommendation, events: {train: feed.parquet}}
  page: {kind: recommendation, users: false, events: {train: feed.parquet}}
model:
  {width: 8, embedding_dim: 8, history: {encoder: sasrec, layers: 1, heads: 1, features: [price]}, next_item: {negatives: 4}}
training: {batch_size: 32, epochs: 2}
seeds: 2
"""
SEEN, ITEMS, USERS = 8, 20, 11  # items that training has seen, all of the catalog, and users to score for
NOTHING, UNHEARD = ITEMS - 1, 999  # of the catalog without a vector, and of no catalog
TOO_LARGE = ITEMS - 2  # no number comes out of its price
LISTS = pa.list_(pa.int64())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two models; pairs of users with items of all sorts; and the same users to recommend to."""
    folder, random = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)

    def pasts(rows: int) -> list[list[int]]:
        return [[int(i) for i in random.integers(0, SEEN, 3)] for _ in range(rows)]

    for domain in ("home", "feed"):
        table = {"user": random.integers(0, 9, 90), "item": random.integers(0, SEEN, 90)}
        pq.write_table(pa.table({**table, "history": pa.array(pasts(90), LISTS)}), folder / f"{domain}.parquet")
    looks = [None if item == NOTHING else random.normal(size=4).tolist() for item in range(ITEMS)]
    prices = [{NOTHING: None, TOO_LARGE: 9e29}.get(item, 1.0 + item) for item in range(ITEMS)]
    pq.write_table(pa.table({"item": np.arange(ITEMS), "look": looks, "price": prices}), folder / "items.parquet")
    (folder / "experiment.yaml").write_text(RAW)
    run_ranks(train_run, 1, load_experiment(folder, kinds=KINDS), folder / "run", deadline=120)
    users = pa.table({"user": np.arange(USERS), "history": pa.array([*pasts(USERS - 1), None], LISTS)})
    pq.write_table(users, folder / "users.parquet")
    items = [*range(ITEMS), UNHEARD, None]
    pairs = users.take(np.repeat(np.arange(USERS), len(items)))
    pairs = pairs.append_column("item", pa.array(items * USERS, pa.int64()))
    pairs = pairs.append_column("domain", pa.array(random.choice(["home", "feed"], len(pairs))))
    pq.write_table(pairs, folder / "pairs.parquet", row_group_size=100)
    return folder


def recommended(runtime: Runtime, folder: Path) -> None:
    out = str(folder / "recommended")
    run_recommending(RecommendJob(folder / "run", str(folder / "users.parquet"), out, ITEMS, repeat=True), runtime)


def scored(runtime: Runtime, folder: Path, out: Path, replicated: bool, domain: str | None, like: list[str]) -> dict:
    score_module.ROWS_AT_A_TIME = 64  # several calls a part, another number on each rank
    if not replicated:
        score_module.replicate = lambda *_: None
    return run_scoring(ScoringJob(folder / "run", str(folder / "pairs.parquet"), str(out), domain, like=like), runtime)


@pytest.fixture(scope="module")
def wanted(folder: Path) -> dict[tuple[int, int], float]:
    """User and item -> the score of the recommendation."""
    run_ranks(recommended, 1, folder)
    rows = pq.read_table(folder / "recommended").to_pylist()
    return {(row["user"], item): score for row in rows for item, score in zip(row["items"], row["scores"], strict=True)}


@pytest.mark.parametrize(("ranks", "replicated"), [(1, True), (2, True), (2, False)])
def test_pairs_have_the_scores_that_recommendations_have(folder, wanted, tmp_path, ranks, replicated):
    summary = run_ranks(scored, ranks, folder, tmp_path / "out", replicated, None, [])[0]
    rows = pq.read_table(tmp_path / "out").to_pylist()
    given = pq.read_table(folder / "pairs.parquet").to_pylist()
    assert [(row["user"], row["item"], row["domain"]) for row in rows] == [
        (row["user"], row["item"], row["domain"]) for row in given
    ]
    got = {(row["user"], row["item"]): row["score_next_item"] for row in rows}
    assert {pair for pair, score in got.items() if score is None} == {
        (user, item) for user in range(USERS) for item in (NOTHING, TOO_LARGE, UNHEARD, None)
    }
    assert wanted.keys() == {pair for pair, score in got.items() if score is not None}  # new items of the catalog too
    np.testing.assert_allclose([got[pair] for pair in wanted], list(wanted.values()), rtol=1e-5, atol=1e-6)
    assert np.std(list(wanted.values())) > 0.01
    assert summary["why"] == {"bad_rows": 0, "no_number": USERS, "unreadable_rows": 0, "unknown_item": 3 * USERS}
    assert summary["rows_without_a_score"] == 4 * USERS
    assert summary["scores"]["next_item"]["scored"] == len(wanted)
    assert summary["scores"]["next_item"]["mean"] == pytest.approx(np.mean(list(wanted.values())), rel=1e-4)
    assert summary["scores"]["next_item"]["domains"].keys() == {"home", "feed"}


def test_a_user_is_the_same_in_a_domain_that_is_like_others(folder, wanted, tmp_path):
    run_ranks(scored, 1, folder, tmp_path / "out", True, "new", ["home", "feed"])
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert {row["domain"] for row in rows} == {"new"}
    got = {(row["user"], row["item"]): row["score_next_item"] for row in rows}
    np.testing.assert_allclose([got[pair] for pair in wanted], list(wanted.values()), rtol=1e-5, atol=1e-6)


def test_rows_of_a_domain_without_users_have_no_score(folder, tmp_path):
    summary = run_ranks(scored, 1, folder, tmp_path / "out", True, "page", [])[0]
    assert pq.read_table(tmp_path / "out")["score_next_item"].null_count == summary["rows"] > 0
    assert summary["scores"] == {}
