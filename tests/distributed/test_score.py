"""Scores do not depend on where the tables are, nor on the number of ranks."""

import glob
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.score import score as score_module
from foundrank.dist.score.scoring_input import ScoringJob

from .harness import run_ranks
from .rank_work import run_scoring, train_run


def score_as(runtime: Runtime, run: Path, source: str, out: Path, domain: str, like: list[str]) -> int:
    score_module.ROWS_AT_A_TIME = 32
    return run_scoring(ScoringJob(run, source, out, domain, like=like), runtime)["rows"]


def score_test(runtime: Runtime, run: Path, source: str, out: Path, replicated: bool) -> int:
    score_module.ROWS_AT_A_TIME = 32  # several calls a part, another number on each rank
    if not replicated:
        score_module.replicate = lambda *_: None
    return run_scoring(ScoringJob(run, source, out), runtime)["rows"]


@pytest.fixture(scope="module")
def source(small, tmp_path_factory) -> str:
    """Rows of all domains mixed, in row groups of very different sizes, one file with none at all."""
    folder, parts = tmp_path_factory.mktemp("input"), []
    experiment = small()
    for name, domain in experiment.domains.items():
        table = pq.read_table(glob.glob(domain.events.test)[0]).slice(0, 40)
        parts.append(table.append_column("domain", pa.array([name] * table.num_rows)))
    mixed = pa.concat_tables(parts, promote_options="default")
    mixed = mixed.take(pa.array(np.random.default_rng(0).permutation(mixed.num_rows)))
    pq.write_table(mixed.slice(0, 30), folder / "a.parquet", row_group_size=30)
    pq.write_table(mixed.slice(30), folder / "b.parquet", row_group_size=101)
    pq.write_table(mixed.slice(0, 0), folder / "c.parquet")
    return str(folder / "*.parquet")


@pytest.fixture(scope="module")
def run(small, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("run") / "run"
    run_ranks(train_run, 2, small("training.max_steps=8", "training.keep_best=false"), run)
    return run


@pytest.mark.parametrize(("ranks", "replicated"), [(1, False), (2, False), (2, True)])
def test_scores_are_the_same_wherever_the_tables_are(run, source, tmp_path, ranks, replicated):
    files = sorted(glob.glob(source))
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    assert set(run_ranks(score_test, 1, run, source, tmp_path / "one", True)) == {rows}
    assert set(run_ranks(score_test, ranks, run, source, tmp_path / "other", replicated)) == {rows}
    one, other = (
        pa.concat_tables([pq.read_table(part) for part in sorted((tmp_path / name).glob("part-*.parquet"))])
        for name in ("one", "other")
    )
    assert one.drop_columns([c for c in one.column_names if c.startswith("score_")]).equals(
        other.drop_columns([c for c in other.column_names if c.startswith("score_")])
    )
    assert one["user"].to_pylist() == [u for file in files for u in pq.read_table(file)["user"].to_pylist()]
    for column in ("score_click", "score_conversion"):
        assert one[column].is_valid().equals(other[column].is_valid())
        ours, theirs = (t[column].drop_null().to_numpy() for t in (one, other))
        assert len(ours) > 50
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_new_domain_is_scored_as_the_mean_of_those_it_is_like(run, small, tmp_path):
    (path,) = glob.glob(small().domains["shop_feed"].events.test)
    table = pq.read_table(path).slice(0, 100)
    own = {f.column_name(n) for d in ("shop_feed", "video_feed") for n, f in small().domains[d].features.items()}
    pq.write_table(table.drop_columns([c for c in own if c in table.column_names]), tmp_path / "new.parquet")
    for name in own:  # what the new domain does not have is missing in the others
        at = pa.nulls(100)
        table = (
            table.set_column(table.column_names.index(name), name, at)
            if name in table.column_names
            else table.append_column(name, at)
        )
    pq.write_table(table, tmp_path / "known.parquet")
    new, known = str(tmp_path / "new.parquet"), str(tmp_path / "known.parquet")
    for domain, source, like in (
        ("shop_feed", known, []),
        ("video_feed", known, []),
        ("kids", new, ["shop_feed", "video_feed"]),
    ):
        assert set(run_ranks(score_as, 2, run, source, tmp_path / domain, domain, like)) == {100}
    scores = {d: pq.read_table(tmp_path / d) for d in ("shop_feed", "video_feed", "kids")}
    assert set(scores["kids"]["domain"].to_pylist()) == {"kids"}
    for column in ("score_click", "score_conversion"):
        logits = {d: (lambda p: np.log(p / (1 - p)))(t[column].to_numpy().astype(float)) for d, t in scores.items()}
        assert np.abs(logits["shop_feed"] - logits["video_feed"]).max() > 1e-3
        np.testing.assert_allclose(logits["kids"], (logits["shop_feed"] + logits["video_feed"]) / 2, atol=1e-4)
