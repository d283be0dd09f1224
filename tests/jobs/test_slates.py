"""Lists that are not of one kind, by the real commands, and the numbers of lists."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from foundrank import evaluate, load
from foundrank.dist.evaluate.prediction_file import predictions_file, read_told

from .commands import Here, foundrank
from .test_bad_input import check_told
from .test_next_item import circle, found_by, run  # noqa: F401  (fixtures)


@pytest.fixture(scope="module")
def mine(run: Path, circle: Path) -> Path:  # noqa: F811
    """A copy of the run, to evaluate."""
    return shutil.copytree(run, circle.parent / "of_slates")


@pytest.fixture
def users(circle: Path) -> Path:  # noqa: F811
    return circle / "events" / "beauty" / "test"


def test_lists_are_of_the_same_best_items_in_another_order(mine, users, tmp_path, here: Here):
    told = foundrank(
        "recommend", mine, users, tmp_path / "dpp", "-k", 5, "-p", 2, "--diversity", "dpp", "--diversity-weight", 0.7
    ).stdout
    assert "best 5 items of 300 users" in told
    assert here("recommend", mine, users, tmp_path / "plain", "-k", 25)[0] == 0
    asked = {"diversity": "dpp", "diversity_weight": 0.7}
    from_python = load(mine).recommend(pq.read_table(users), k=5, **asked)
    assert from_python.equals(pq.read_table(tmp_path / "dpp", schema=from_python.schema))
    moved = 0
    plain = pq.read_table(tmp_path / "plain").to_pylist()
    for row, best in zip(from_python.to_pylist(), plain, strict=True):
        assert row["items"][0] == best["items"][0]
        score = dict(zip(best["items"], best["scores"], strict=True))
        assert [score[item] for item in row["items"]] == row["scores"]
        moved += row["items"] != best["items"][:5]
    assert moved > 200
    # Again it finds all done; another weight is another job.
    weighed = ("recommend", mine, users, tmp_path / "dpp", "-k", 5, "--diversity", "dpp", "--diversity-weight")
    assert here(*weighed, 0.7)[0] == 0
    check_told(here(*weighed, 0.6), ["weight", "differ"])


def test_a_weight_of_nothing_changes_nothing(mine, users, tmp_path, here: Here):
    assert here("recommend", mine, users, tmp_path / "plain", "-k", 5, "-p", 1)[0] == 0
    nothing = ("--diversity", "mmr", "--diversity-weight", 0, "--pool", 20)
    assert here("recommend", mine, users, tmp_path / "nothing", "-k", 5, "-p", 1, *nothing)[0] == 0
    one, other = (sorted((tmp_path / name).glob("part-*")) for name in ("plain", "nothing"))
    assert [part.read_bytes() for part in one] == [part.read_bytes() for part in other]
    assert found_by(here, mine, "-p", 1) == found_by(here, mine, "-p", 1, *nothing)


def test_evaluate_tells_of_lists_and_measures_slates(mine, here: Here):
    told, plain = found_by(here, mine, "-p", 1)
    assert "slate" not in told
    assert plain["coverage@10"] == pytest.approx(20 / 21)  # of one item nothing is known
    assert 0 <= plain["gini@10"] < 0.5
    assert plain["distance@10"] > 0
    assert 0 < plain["listed_popularity@10"] < 1
    asked = ("--diversity", "mmr", "--diversity-weight", 0.8, "--pool", 20)
    said = foundrank("evaluate", mine, "-p", 2, *asked).stdout
    assert "lists by mmr of weight 0.8 from the best 20" in " ".join(said.split())
    assert "lists of 10" in said
    document = json.loads((mine / "evaluation.json").read_text())
    assert document["protocol"]["slate"] == {"method": "mmr", "weight": 0.8, "pool": 20}
    (row,) = [row for row in document["next_item"] if row["slice"] == "all"]
    assert row["distance@10"] > plain["distance@10"]
    assert row["hr@5"] > 0.9  # the best item is still the first
    assert "coverage@10" not in next(row for row in document["next_item"] if row["slice"] != "all")
    report = (mine / "report.html").read_text()
    assert "lists by mmr of weight 0.8" in report
    assert "-log2 of an item" in report
    again = evaluate(mine, diversity="mmr", diversity_weight=0.8, pool=20, processes=1)
    assert again["next_item"] == document["next_item"]
    _, few = found_by(here, mine, "--negatives", 5, "-p", 1)
    assert "distance@10" not in few  # lists of a few items drawn at random are nobody's
    assert here("evaluate", mine, "-p", 1, "--fail-below", "next_item.coverage@10=0.99")[0] == 3


def test_runs_are_compared_by_their_slates(mine, tmp_path, here: Here):
    asked = ("--diversity", "mmr", "--diversity-weight", 0.8, "--pool", 20)
    _, of_slates = found_by(here, mine, "-p", 1, *asked)
    other = shutil.copytree(mine, tmp_path / "other")
    assert here("compare", mine, other, "--draws", 100, *asked, "--out", tmp_path / "told.json")[0] == 0
    found = [row for row in json.loads((tmp_path / "told.json").read_text())["rows"] if row["metric"] == "ndcg@10"]
    (row,) = [row for row in found if row["slice"] == "all"]
    assert row["first"] == row["other"] == pytest.approx(of_slates["ndcg@10"])
    for folder in (mine, other):
        told = read_told(predictions_file(folder, "test"))
        assert told is not None
        assert told["protocol"]["slate"] == {"method": "mmr", "weight": 0.8, "pool": 20}


def test_mistakes_are_told_before_work_starts(mine, users, tmp_path, here: Here):
    to = ("recommend", mine, users, tmp_path / "no", "-k", 5)
    check_told(here(*to, "--diversity-weight", 0.5), ["says nothing without --diversity"])
    check_told(here(*to, "--alike-by", "text"), ["--alike-by text", "says nothing without --diversity"])
    check_told(here(*to, "--diversity", "dpp"), ["--diversity dpp", "needs --diversity-weight"])
    check_told(here(*to, "--diversity", "dpp", "--diversity-weight", 0.5, "--pool", 4), ["--pool 4", "Give 5 or more"])
    by = ("--diversity", "dpp", "--diversity-weight", 0.5, "--alike-by", "looks")
    check_told(here(*to, *by), ["--alike-by", "'looks' is no content of items"])
    assert not (tmp_path / "no").exists()
    check_told(here("evaluate", mine, *by), ["--alike-by", "'looks' is no content of items"])
    check_told(here("evaluate", mine, "--negatives", 5, *by[:4]), ["--diversity", "drawn at random"])
    check_told(here("compare", mine, mine, *by[:2]), ["--diversity dpp", "needs --diversity-weight"])
    check_told(here("compare", mine, mine, *by[4:]), ["--alike-by looks", "says nothing without --diversity"])
    check_told(here("evaluate", mine, *by[:4], "--pool", 10), ["--pool 10", "Give 20 or more"])
