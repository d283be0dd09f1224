"""Preference alignment on one rank and on two: the same candidates, rewards and numbers, by vectors, by codes and along a beam."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.dist.align.align import align
from foundrank.dist.align.finding import find
from foundrank.dist.align.prepare import prepare_alignment
from foundrank.dist.align.request import TRAIN, Grouping
from foundrank.dist.align.reward_spec import reward_spec
from foundrank.dist.ranks.runtime import ALONE, Runtime
from foundrank.dist.tokenize.tokenize import tokenize
from tests.coded_world import RQ, opened, raw_experiment, write_world

from .harness import run_ranks
from .test_codes import ALONG_A_BEAM, PARALLEL, trained

BY = {
    "by_vectors": ("model.next_item={loss: softmax}", "model.aspects=[id, look]"),
    "parallel": (PARALLEL,),
    "beam": (ALONG_A_BEAM,),
}
every_ranking = pytest.mark.parametrize("name", BY)
NOTHING_AT_RANDOM = {
    "by_vectors": ("model.id_dropout=0",),
    "parallel": (),
    "beam": ("model.next_item.decoder.dropout=0",),
}
ROWS = 400  # of training, both domains


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment, whose codes are made."""
    path = write_world(tmp_path_factory.mktemp("align"), raw_experiment(RQ | {"size": 8}), users=200, group=61)
    tokenize(opened(path), ALONE)
    return path


def found(runtime: Runtime, run: Path, out: Path, pool: int = 20) -> None:
    job = prepare_alignment(run, str(out), reward_spec("hits", ""), Grouping(4, pool))
    find(job, job.run, job.folder, (TRAIN,), runtime)


def candidates(out: Path, domain: str = "home") -> dict[tuple[int, ...], Any]:
    """Row -> its candidates and references."""
    table = pq.read_table(out / "candidates/train/found" / domain)
    columns = (table[name].to_pylist() for name in ("user", "item", "history", "candidates", "reference"))
    return {(user, item, *past): (items, of) for user, item, past, items, of in zip(*columns, strict=True)}


@every_ranking
def test_candidates_are_the_same_on_any_ranks_and_in_any_parts(world, name, tmp_path):
    run = trained(world, name, *BY[name])
    run_ranks(found, 1, run, tmp_path / "one")
    run_ranks(found, 2, run, tmp_path / "two")
    one, two = (candidates(tmp_path / of) for of in ("one", "two"))
    assert one.keys() == two.keys()
    for row, (items, reference) in one.items():
        assert two[row][0] == items
        np.testing.assert_allclose(two[row][1], reference, rtol=1e-4, atol=1e-4)
        assert len(set(items)) == len(items) == 4
        assert not set(items) & set(row[2:])
    # Drawn, they are not the best ones, and rows differ in what they draw.
    run_ranks(found, 1, run, tmp_path / "best", 4)
    best = candidates(tmp_path / "best")
    assert sum(set(items) != set(best[row][0]) for row, (items, _) in one.items()) > len(one) / 4
    assert all(of == sorted(of, reverse=True) for _, of in best.values())


def aligned(runtime: Runtime, run: Path, out: Path, reward: str, overrides: list[str]) -> Any:
    job = prepare_alignment(run, str(out), reward_spec(reward, ""), Grouping(4, 20), overrides=overrides)
    return align(job, runtime)


@every_ranking
def test_two_ranks_learn_what_one_learns(world, name, tmp_path):
    run = trained(world, name, *BY[name])
    # A reward of items alone, which lists can follow.
    rewards = [(user, item, float(item % 3 == 0)) for user in range(30) for item in range(40)]
    pq.write_table(
        pa.table(dict(zip(("user", "item", "reward"), map(list, zip(*rewards, strict=True)), strict=True))),
        tmp_path / "wanted.parquet",
    )
    changes = [
        "training.epochs=12",
        "model.next_item.preference.nll=0.1",
        "training.learning_rate=0.02",
        "init_optimizer=false",
        *NOTHING_AT_RANDOM[name],
    ]
    told = {}
    for ranks in (1, 2):  # all rows in each step, so that both have the same steps
        every = [*changes, f"training.batch_size={ROWS // ranks}"]
        told[ranks] = run_ranks(aligned, ranks, run, tmp_path / str(ranks), str(tmp_path / "wanted.parquet"), every)
    assert told[2][0] == told[2][1]
    one, two = ({(row["domain"], row["measure"]): row for row in told[ranks][0]["measures"]} for ranks in (1, 2))
    assert one.keys() == two.keys() == {(d, m) for d in ("home", "feed") for m in ("reward", "hr@10", "ndcg@10")}
    for key, row in one.items():
        assert two[key]["before"] == pytest.approx(row["before"], abs=1e-6)
        assert two[key]["after"] == pytest.approx(row["after"], abs=0.031)  # of a hundred rows a few, as ranks round
    assert one["home", "reward"]["low"] > 0
