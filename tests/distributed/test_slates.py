"""Slates on two ranks: evaluated and recommended as on one, by vectors, by codes and along a beam."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank import load
from foundrank.dist.ranks.runtime import ALONE, Runtime
from foundrank.dist.retrieval.protocol import Protocol
from foundrank.dist.retrieval.slate import Slate
from foundrank.dist.score.recommend_input import RecommendJob
from foundrank.dist.tokenize.tokenize import tokenize
from tests.coded_world import RQ, opened, raw_experiment, write_world

from .harness import run_ranks
from .rank_work import run_recommending
from .test_codes import ALONG_A_BEAM, PARALLEL, measured, of_all, trained

LISTS = ("distance@10", "novelty@10", "listed_popularity@10", "past_popularity", "coverage@10", "gini@10")
BY = {
    "by_vectors": ("model.next_item={negatives: 20}", "model.aspects=[id, look]"),
    "parallel": (PARALLEL,),
    "beam": (ALONG_A_BEAM,),
}
every_ranking = pytest.mark.parametrize("name", BY)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment, whose codes are made."""
    path = write_world(tmp_path_factory.mktemp("slates"), raw_experiment(RQ | {"size": 8}), users=200, group=61)
    tokenize(opened(path), ALONE)
    return path


@every_ranking
def test_lists_are_measured_alike_on_any_ranks(world, name):
    run, found = trained(world, name, *BY[name]), {}
    for told, protocol in {
        "plain": Protocol(),
        "mmr": Protocol(slate=Slate("mmr", 0.9, 30)),
        "dpp": Protocol(slate=Slate("dpp", 0.9, 30), alike="look"),
        "domain": Protocol(slate=Slate("mmr", 0.5, 25), domain="feed"),
        "look": Protocol(alike="look"),
    }.items():
        one, two = (run_ranks(measured, ranks, run, protocol)[0] for ranks in (1, 2))
        assert one["next_item"] == two["next_item"]
        assert one["protocol"] == protocol.told(opened(run / "experiment.yaml"))
        found[told] = of_all(one, "feed")
        assert all(found[told][metric] is not None for metric in LISTS)
    # What is best comes first all the same; what is not alike has come before what is.
    assert found["plain"]["hr@20"] >= found["mmr"]["hr@20"]
    assert found["mmr"]["distance@10"] > found["plain"]["distance@10"] + 0.02
    assert found["dpp"]["distance@10"] > found["look"]["distance@10"] + 0.02
    assert found["domain"]["items"] == 20
    assert found["domain"]["coverage@10"] <= 1


@every_ranking
def test_a_row_s_item_is_where_recommendations_have_it(world, name):
    run = trained(world, name, *BY[name])
    found = of_all(run_ranks(measured, 1, run, Protocol(repeat=True, slate=Slate("dpp", 0.5, 30)))[0], "home")
    rows = pq.read_table(world.parent / "home.test.parquet")
    lists = load(run).recommend(rows, k=20, repeat=True, diversity="dpp", diversity_weight=0.5, pool=30)
    for places in (5, 10, 20):
        hits = [
            item in of_row[:places]
            for item, of_row in zip(rows["item"].to_pylist(), lists["items"].to_pylist(), strict=True)
        ]
        assert found[f"hr@{places}"] == pytest.approx(sum(hits) / len(hits), abs=0.021)
    shown = {item for of_row in lists["items"].to_pylist() for item in of_row[:10]}
    assert found["coverage@10"] == pytest.approx(len(shown) / 40, abs=0.051)


def recommended(runtime: Runtime, job: RecommendJob) -> None:
    run_recommending(job, runtime)


@every_ranking
def test_slates_are_the_same_on_any_ranks_in_any_parts_and_from_python(world, name, tmp_path):
    run, slate = trained(world, name, *BY[name]), Slate("mmr", 0.6, 30)
    users = pq.read_table(world.parent / "home.test.parquet")
    written = []
    for ranks, group in ((1, 100), (2, 7)):
        source = tmp_path / f"{ranks}.parquet"
        pq.write_table(users, source, row_group_size=group)
        out = tmp_path / f"out{ranks}"
        job = RecommendJob(run, str(source), out, 8, True, slate=slate)
        run_ranks(recommended, ranks, job)
        parts = [pq.read_table(part) for part in sorted(out.glob("*.parquet"))]
        written.append(pa.concat_tables(parts))
    assert written[0]["items"].to_pylist() == written[1]["items"].to_pylist()
    scorer = load(run)
    asked = {"diversity": "mmr", "diversity_weight": 0.6, "pool": 30}
    assert scorer.recommend(users, 8, repeat=True, **asked)["items"].to_pylist() == written[0]["items"].to_pylist()
    plain = scorer.recommend(users, 30, repeat=True).to_pylist()
    for row, best in zip(written[0].to_pylist(), plain, strict=True):
        assert row["items"][0] == best["items"][0]
        score = dict(zip(best["items"], best["scores"], strict=True))  # the model's, whatever their order
        assert row["scores"] == pytest.approx([score[item] for item in row["items"]], rel=1e-5)
    assert any(row["items"] != best["items"][:8] for row, best in zip(written[0].to_pylist(), plain, strict=True))
    without = scorer.recommend(users, 8, repeat=True)
    assert scorer.recommend(users, 8, repeat=True, diversity="dpp", diversity_weight=0).equals(without)
