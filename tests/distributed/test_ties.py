"""Items that are equal are recommended in their order, and rank alike, on any number of ranks."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.score.recommend_input import RecommendJob
from foundrank.model.kinds import KINDS

from .harness import run_ranks
from .rank_work import evaluate_test, run_recommending, train_run

RAW = """
name: ties
entities:
  user: {id: user, history: {column: history}}
  item: {id: item, catalog: {path: items.parquet, key: item}, features: {kind: {kind: categorical}}}
domains:
  home: {kind: recommendation, events: {train: train.parquet, test: test.parquet}}
model:
  {width: 8, embedding_dim: 8, history: {encoder: sasrec, layers: 1, heads: 1, features: [kind]}, next_item: {negatives: 4}}
training: {batch_size: 32, epochs: 1}
"""
SEEN, ITEMS = (
    8,
    60,
)  # items that events show, and all: those that are new are of three kinds, and nothing else is known of them


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder, random = tmp_path_factory.mktemp("ties"), np.random.default_rng(0)
    for split in ("train", "test"):
        past = [[int(i) for i in random.integers(0, SEEN, 3)] for _ in range(90)]
        items = random.integers(0, SEEN if split == "train" else ITEMS, 90)
        table = {"user": random.integers(0, 9, 90), "item": items, "history": pa.array(past, pa.list_(pa.int64()))}
        pq.write_table(pa.table(table), folder / f"{split}.parquet", row_group_size=13)
    order = random.permutation(ITEMS)
    pq.write_table(pa.table({"item": order, "kind": order % 3}), folder / "items.parquet")
    (folder / "experiment.yaml").write_text(RAW)
    return load_experiment(folder, kinds=KINDS)


@pytest.fixture(scope="module")
def run(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    run_ranks(train_run, 1, experiment, run)
    return run


def recommended(runtime: Runtime, run: Path, source: str, out: Path, approximate: bool) -> None:
    run_recommending(RecommendJob(run, source, str(out), 30, approximate=approximate), runtime)


def evaluated(runtime: Runtime, run: Path) -> dict:
    return evaluate_test(run, runtime)


@pytest.mark.parametrize("approximate", [False, True])
def test_recommendations_of_equal_items_are_the_same_on_any_ranks(experiment, run, tmp_path, approximate):
    if approximate:
        pytest.importorskip("faiss")
    source, found = experiment.domains["home"].events.test, []
    for ranks in (1, 2, 3):
        run_ranks(recommended, ranks, run, source, tmp_path / f"{ranks}", approximate)
        found.append(pq.read_table(tmp_path / f"{ranks}").to_pylist())
    listed = pq.read_table(Path(str(experiment.entities.item.catalog.path)))["item"].to_pylist()  # type: ignore[union-attr]
    for rows in found:
        assert [row["items"] for row in rows] == [row["items"] for row in found[0]]
        for row in rows:
            for kind in range(3):
                new = [(i, s) for i, s in zip(row["items"], row["scores"], strict=True) if i >= SEEN and i % 3 == kind]
                assert len({score for _, score in new}) <= 1
                in_catalog = [i for i in listed if i >= SEEN and i % 3 == kind]
                got = [item for item, _ in new]
                assert got == (sorted(got, key=listed.index) if approximate else in_catalog[: len(got)])


def test_equal_items_rank_alike_on_any_ranks(run):
    found = [run_ranks(evaluated, ranks, run)[0]["next_item"] for ranks in (1, 2, 3)]
    assert found[0]
    assert found[0] == found[1] == found[2]
