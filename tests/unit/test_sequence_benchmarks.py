"""What the benchmarks of sequences do to data, and the tables that they write."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import beams, codes, histories, next_item
from benchmarks.unseen_items import without_items
from foundrank.dist.study.results import Result, Surface

TRAIN = "events/beauty/train/part.parquet"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of 40 users and 20 items."""
    random = np.random.default_rng(1)
    users = [random.integers(0, 20, random.integers(2, 8)).tolist() for _ in range(40)]
    table = {
        "user_id": list(range(40)),
        "item_id": pa.array([row[-1] for row in users], pa.int32()),
        "history": pa.array([row[:-1] for row in users], pa.list_(pa.int32())),
    }
    for split in ("train", "test"):
        path = tmp_path / "data" / "events" / "beauty" / split / "part.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(table), path)
    (tmp_path / "data" / "experiment.yaml").write_text("name: x")
    return tmp_path / "data"


def test_training_never_sees_what_is_taken_out_and_all_else_stays(data, tmp_path):
    out = without_items(data, tmp_path / "out", share=0.3)
    before, after = (pq.read_table(folder / TRAIN).to_pylist() for folder in (data, out))
    left = {row["user_id"]: [*row["history"], row["item_id"]] for row in after}
    whole = {row["user_id"]: [*row["history"], row["item_id"]] for row in before}
    gone = {item for row in whole.values() for item in row} - {item for row in left.values() for item in row}
    assert len(gone) == 6
    for user, row in whole.items():
        kept = [item for item in row if item not in gone]
        assert left.get(user) == (kept if len(kept) > 1 else None)
    assert pq.read_schema(out / TRAIN) == pq.read_schema(data / TRAIN)
    test = TRAIN.replace("train", "test")
    assert (out / test).read_bytes() == (data / test).read_bytes()
    assert (out / "experiment.yaml").read_text() == "name: x"
    again = without_items(data, tmp_path / "again", share=0.3)
    assert (again / TRAIN).read_bytes() == (out / TRAIN).read_bytes()


def measured(arm: str, seed: int, hr: float) -> dict:
    row = {"rows": 400, "items": 2000} | {
        f"{p}{m}@{k}": hr for p in ("", "popularity_") for m in ("hr", "ndcg", "mrr") for k in (10, 20)
    }
    return {
        "arm": arm, "seed": seed, "test": {"all": row, "cold_items": row, "warm_items": row}, "parameters": 1234, "epochs": 2,
        "epoch_s": 10.0 * seed,
    }  # fmt: skip


def test_the_table_has_means_and_ranges_over_seeds_and_the_least_time():
    results = [measured("a", 1, 0.1), measured("b", 1, 0.5), measured("a", 2, 0.2)]
    text = next_item.section({"machine": "M.", "seeds": 2, "results": results})
    assert "| a | 0.1500 (0.1000–0.2000) | 0.1500 (0.1000–0.2000) | 0.1500 (0.1000–0.2000) | 1,234 | 10 |" in text
    assert "| b | 0.5000 (0.5000–0.5000) |" in text


def test_unseen_items_come_with_the_interval_of_their_share():
    text = next_item.unseen_section({"seeds": 1, "unseen": [measured("a", 1, 0.1)]})
    # Wilson's interval of 40 among 400.
    assert "| a | 0.1000 [0.0743, 0.1333] | 0.1000 [0.0743, 0.1333] | 0.1000 |" in text
    assert "| at random | 0.0050 | 0.0100 | 0.0050 |" in text


def test_histories_are_compared_with_the_mean():
    random = np.random.default_rng(0)
    labels, users = (random.random(600) < 0.5).astype(float), np.repeat(np.arange(100), 6)

    def result(skill: float) -> Result:
        scores = labels * skill + random.normal(size=(4, 600))
        return Result({("d", "t"): Surface(labels, users, random.integers(0, 2, 600), None, scores)}, 4, 0.5)

    text = histories.table("world", {"mean": result(0.5), "din": result(3.0)}, {"mean": 10.0, "din": 20.4})
    mean, din = (line.split(" | ") for line in text.splitlines()[-2:])
    assert mean[:4] == ["| mean", "4", "0.5", "10"]
    assert din[:4] == ["| din", "4", "0.5", "20"]
    assert all(cell.startswith("+0.") and "[+0." in cell for cell in din[5:])


def coded(arm: str, seed: int, hits: float, data: str = "data") -> dict:
    """The figures of a training by codes."""
    row = {"rows": 100, "items": 500, "hr@10": hits, "hr@20": 2 * hits, "ndcg@10": hits / 2}
    row |= {"popularity_hr@10": 0.01, "popularity_ndcg@10": 0.005}
    slices = {name: row for name in ("all", "cold_items", "warm_items")}
    told = {"data": data, "arm": arm, "seed": seed, "seconds": 1, "parameters": 250_000, "dense_parameters": 1}
    return told | {"left_out": slices, "kept": slices}


def test_codes_have_means_over_the_seeds_that_are_there_and_intervals_over_users():
    results = [coded("a", 1, 0.1), coded("a", 2, 0.2), coded("b", 1, 0.3), coded("c", 1, 0.1, "data_without")]
    cosines = {"newest past item": {"hr@10": 0.04, "ndcg@10": 0.02}}
    text = codes.section({"machine": "M.", "results": results, "cosines": cosines})
    both = "0.1500 (0.1000–0.2000) | 0.0750 (0.0500–0.1000)"
    assert f"| a | 2 | {both} | {both} | 1.0 |" in text
    assert "| b | 1 | 0.3000 | 0.1500 | 0.3000 | 0.1500 | 1.0 |" in text
    assert "| cosine of titles, newest past item | | 0.0400 | 0.0200 | | | |" in text
    assert "| popularity | | 0.0100 | 0.0050 | 0.0100 | 0.0050 | |" in text
    assert f"| c | {next_item.wilson(0.1, 100)} | {next_item.wilson(0.2, 100)} | 0.1000 |" in text


def test_beams_cost_medians_and_multiples_of_the_smallest_catalog():
    agreed = {"users": 1000, "same": 999, "beam": 50, "items": 500}
    found = {"few": {"beam": [2.0, 1.0, 3.0], "vectors": [1.0]}, "many": {"beam": [3.0], "vectors": [9.0]}}
    text = beams.section(agreed, found, "M.")
    assert "for 999 of 1,000 users" in text
    assert "| few | 2.00 (1.00–3.00) | 1.00 (1.00–1.00) | 1.00 |" in text
    assert "| many | 3.00 (3.00–3.00) | 9.00 (9.00–9.00) | 1.50 |" in text
