"""Statistics that add up to what all rows together say, and the thresholds on them."""

import json
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from foundrank.data.errors import UserError
from foundrank.dist.score.output_folder import Place
from foundrank.dist.score.statistics import QUANTILES, added_up, merged, of_scores
from foundrank.dist.score.summary import Previous, as_json, previous_summary, summarized
from foundrank.dist.score.writing import Thresholds, Writing

TASKS = {"home": ["click"], "find": ["click", "buy"], "none": []}


def rows(random: np.random.Generator, count: int) -> tuple[pa.Table, np.ndarray]:
    """Scores of rows of three domains, some bad and some without a number."""
    domain = random.choice(list(TASKS), count)
    bad = random.random(count) < 0.05
    click, buy = random.random(count).astype(np.float32), random.normal(0, 100, count).astype(np.float32)
    none = bad | (random.random(count) < 0.02)
    click[none | (domain == "none")] = np.nan
    buy[none | (domain != "find")] = np.nan
    columns = {name: pa.array(of, mask=np.isnan(of)) for name, of in (("score_click", click), ("score_buy", buy))}
    return pa.table({"domain": domain, **columns}), bad


def cut(table: pa.Table, bad: np.ndarray, *cuts: int) -> dict[str, Any]:
    pieces = pairwise([0, *cuts, len(table)])
    return added_up(of_scores(table.slice(a, b - a), bad[a:b], TASKS, b - a) for a, b in pieces)


def test_parts_add_up_to_the_whole():
    table, bad = rows(np.random.default_rng(0), 4000)
    whole, parts = cut(table, bad), cut(table, bad, 1, 700, 700, 2900)
    assert json.loads(json.dumps(parts)) == parts
    for name in ("rows", "rows_without_a_score", "why"):
        assert parts[name] == whole[name]
    for task in ("click", "buy"):
        one, other = whole["scores"][task], parts["scores"][task]
        assert one["quantiles"] == other["quantiles"]
        assert one["mean"] == pytest.approx(other["mean"], rel=1e-12)
        values = table[f"score_{task}"].drop_null().to_numpy().astype(np.float64)
        assert (one["scored"], one["least"], one["most"]) == (len(values), values.min(), values.max())
        assert one["mean"] == pytest.approx(values.mean(), rel=1e-9)
        wanted = np.quantile(values, QUANTILES)
        np.testing.assert_allclose(list(one["quantiles"].values()), wanted, rtol=0.02, atol=1e-3)
    of_home = table.filter(pa.compute.equal(table["domain"], "home"))["score_click"].drop_null().to_numpy()
    assert whole["scores"]["click"]["domains"]["home"]["mean"] == pytest.approx(of_home.mean(), rel=1e-5)
    lacking = (table["domain"].to_numpy() == "none").sum()
    assert whole["scores"]["click"]["domain_lacks_task"] == lacking
    assert whole["why"]["bad_rows"] == bad.sum()
    named = table["domain"].to_numpy() != "none"
    missing = table["score_click"].is_null().to_numpy() & named & ~bad
    assert whole["why"]["no_number"] == missing.sum()


@pytest.mark.parametrize("together", [1, 2, 3, 99])
def test_parts_that_are_taken_together_say_the_same_to_the_bit(together):
    table, bad = rows(np.random.default_rng(1), 3000)
    cuts = [0, 1, 700, 700, 900, 1400, 2200, 2900, 3000]
    parts = [of_scores(table.slice(a, b - a), bad[a:b], TASKS, b - a) for a, b in pairwise(cuts)]
    pieces = [merged(parts[start : start + together]) for start in range(0, len(parts), together)]
    assert added_up(pieces) == added_up([merged(pieces)]) == added_up(parts)
    assert len(json.dumps(merged(parts))) < 0.9 * len(json.dumps(parts))


def test_one_score_is_every_quantile_and_no_score_is_none():
    columns = {"score_click": pa.array([0.3], pa.float32()), "score_buy": pa.nulls(1, pa.float32())}
    table = pa.table({"domain": ["home"], **columns})
    home = added_up([of_scores(table, np.zeros(1, bool), TASKS, 1)])["scores"]["click"]
    assert set(home["quantiles"].values()) == {float(np.float32(0.3))} == {home["mean"]}
    none = of_scores(table.slice(0, 0), np.zeros(0, bool), TASKS, 7)
    assert added_up([none])["why"] == {"bad_rows": 0, "no_number": 0, "unreadable_rows": 7, "unknown_item": 0}


def test_a_row_without_a_score_is_counted_for_one_reason_by_parts_of_older_versions_too():
    bad, unknown = np.array([True, False, False, False]), np.array([True, True, False, False])
    scores = pa.array([None, None, None, 0.5], pa.float32())
    table = pa.table({"domain": ["home"] * 4, "score_next_item": scores})
    part = of_scores(table, bad, {"home": ["next_item"]}, 4, unknown)
    told = added_up([part])
    assert told["why"] == {"bad_rows": 1, "no_number": 1, "unreadable_rows": 0, "unknown_item": 1}
    assert told["rows_without_a_score"] == 3
    del part["domains"]["home"]["unknown_item"]
    assert added_up([part])["rows_without_a_score"] == 2


def summary(means: dict[str, float], before: Any, limits: Thresholds, unreadable: int = 0) -> dict[str, Any]:
    scores = np.repeat(list(means.values()), 2).astype(np.float32)
    table = pa.table({"domain": np.repeat(list(means), 2), "score_click": scores})
    told = of_scores(table, np.zeros(len(scores), bool), {name: ["click"] for name in means}, len(scores) + unreadable)
    work = SimpleNamespace(
        checkpoint="c", files=1, fingerprint="f", previous=before, writing=Writing(thresholds=limits)
    )
    return summarized(work, [told], "run", 1.0, 2.0)  # type: ignore[arg-type]


def test_thresholds_name_what_has_passed_them(tmp_path):
    first = summary({"home": 0.5, "find": 0.25}, None, Thresholds(0.0, 0.0))
    assert (first["thresholds_passed"], first["drift"]) == ([], None)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "_summary.json").write_bytes(as_json(first))
    for against in (str(tmp_path / "old"), str(tmp_path / "old" / "_summary.json")):
        before = previous_summary(str(tmp_path / "out"), against, Place("", [], []))
        moved = summary({"home": 0.75, "find": 0.25, "new": 0.375}, before, Thresholds(0.1, 0.2), unreadable=2)
        assert moved["drift"]["shifts"]["home.click"] == 0.25
        assert moved["drift"]["shifts"]["new.click"] is None
        null, shift = moved["thresholds_passed"]
        assert "2 of 8 rows (25.00%) have no score (unreadable rows 2)" in null
        assert "the mean score of home.click is 0.75, and was 0.5" in shift


def test_what_was_overwritten_is_compared_with_and_remembered(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    assert previous_summary(str(out), None, Place(str(out), [], [])) is None
    first = summary({"home": 0.5}, None, Thresholds())
    (out / "_summary.json").write_bytes(as_json(first))
    assert previous_summary(str(out), None, Place(str(out), [], [])) is None  # the job's own
    before = previous_summary(str(out), None, Place(str(out / "_next"), [], []))
    assert before is not None
    (out / "_summary.json").write_bytes(as_json(summary({"home": 0.75}, before, Thresholds())))
    assert previous_summary(str(out), None, Place(str(out), [], [])) == before  # run again, it tells the same


@pytest.mark.parametrize("content", [None, "[]", "{}", '{"scores": {"click": {"mean": "x"}}}'])
def test_what_is_no_summary_is_told(tmp_path, content):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"x\.json"):
        previous_summary(str(tmp_path / "out"), str(path), Place("", [], []))


def test_one_shift_is_told_once_and_a_job_that_was_done_keeps_its_rate(tmp_path):
    before = Previous("before", {"click": 0.5, "home.click": 0.5})
    (told,) = summary({"home": 0.75}, before, Thresholds(mean_shift=0.1))["thresholds_passed"]
    assert "of click is" in told
    statistics = [of_scores(pa.table({"domain": [], "score_click": []}), np.zeros(0, bool), {"home": ["click"]}, 0)]
    work = SimpleNamespace(
        folder=str(tmp_path), checkpoint="c", files=1, fingerprint="f", previous=None, writing=Writing()
    )
    first = summarized(work, statistics, "run", 12.0, 300.0)  # type: ignore[arg-type]
    (tmp_path / "_summary.json").write_bytes(as_json(first))
    assert summarized(work, statistics, "run", 1.0, 0.0) == first  # type: ignore[arg-type]
