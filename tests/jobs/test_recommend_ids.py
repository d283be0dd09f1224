"""Recommended ids are those of the catalog, in its type, whatever the users' histories are written as."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.arrow_columns import array_of

from .commands import Here, settings
from .test_bad_input import check_told

ITEMS = 20
TRAIN = settings(
    "text.vectors=none", "training.epochs=1", "model.history.encoder=sasrec", "model.history.layers=1", "model.next_item={negatives: 16}"
)  # fmt: skip
KINDS = {
    "int32": (pa.int32(), lambda n: n, True),
    "uint64": (pa.uint64(), lambda n: 2**63 + n, True),
    "string": (pa.string(), lambda n: f"k{n}", True),
    "large_string": (pa.large_string(), lambda n: f"k{n}", True),
    "uint64 without a catalog": (pa.uint64(), lambda n: 2**63 + n, False),
    "int64 without a catalog": (pa.int64(), lambda n: n - 10, False),
}


@pytest.mark.parametrize("name", KINDS)
def test_item_ids_are_the_catalogs(name, tmp_path: Path, here: Here):
    kind, id_of, has_catalog = KINDS[name]
    run = train(tmp_path, kind, id_of, has_catalog, here)
    pasts = {"own": pa.array([[id_of(3), id_of(4)], [], None], pa.list_(kind)), "null": pa.nulls(3)}
    pasts["empty"] = pa.array([[], [], []], pa.list_(pa.null()))
    if name == "int32":
        pasts["narrow"] = pa.array([[3, 4], [], None], pa.list_(pa.int8()))
    got = {}
    for past, column in pasts.items():
        pq.write_table(pa.table({"user_id": [1, 2, 3], "history": column}), tmp_path / f"{past}.parquet")
        status, said = here("recommend", run, tmp_path / f"{past}.parquet", tmp_path / past, "-k", "5")
        assert status == 0, said
        table = pq.read_table(next((tmp_path / past).glob("part-*")))
        assert table.schema.field("items").type.value_type == kind
        got[past] = table["items"].to_pylist()
        assert {item for items in got[past] for item in items} <= {id_of(n) for n in range(1, ITEMS + 1)}
        assert [len(items) for items in got[past]] == [5, 5, 5]
    assert got["own"][1] == got["own"][2] == got["null"][0] == got["empty"][0]  # all that nothing is known of are alike
    assert not {id_of(3), id_of(4)} & set(got["own"][0])
    if name == "int32":
        assert got["narrow"] == got["own"]
        check_user_ids(run, tmp_path, here)


def check_user_ids(run: Path, folder: Path, here: Here) -> None:
    """Parts have one type of user ids, or the job is refused."""
    (folder / "users").mkdir()
    for part, ids in (("a", pa.array([1], pa.int8())), ("b", pa.array([2**40], pa.int64()))):
        pq.write_table(pa.table({"user_id": ids, "history": pa.nulls(1)}), folder / f"users/{part}.parquet")
    assert here("recommend", run, folder / "users", folder / "out", "-k", "5")[0] == 0
    got = pa.concat_tables(pq.read_table(part) for part in sorted((folder / "out").glob("part-*")))
    assert got["user_id"].type == pa.int64()
    assert got["user_id"].to_pylist() == [1, 2**40]
    pq.write_table(
        pa.table({"user_id": pa.array([2**63], pa.uint64()), "history": pa.nulls(1)}), folder / "users/c.parquet"
    )
    check_told(here("recommend", run, folder / "users", folder / "new", "-k", "5"), ["c.parquet", "uint64", "one type"])
    assert not (folder / "new").exists()


def train(folder: Path, kind: pa.DataType, id_of, has_catalog: bool, here: Here) -> Path:
    """A run of one epoch on events whose items have ids of a type."""
    rng, rows = np.random.default_rng(0), 200
    items = rng.integers(1, ITEMS + 1, (rows, 4))
    past = [[id_of(int(n)) for n in row[1:]] for row in items]
    table = pa.table(
        {
            "user_id": rng.integers(1, 31, rows),
            "item_id": array_of(kind, [id_of(int(n)) for n in items[:, 0]]),
            "history": pa.array(past, pa.list_(kind)),
            "clicked": rng.integers(0, 2, rows).astype(np.int8),
        }
    )
    pq.write_table(table, folder / "events.parquet")
    item = {"id": "item_id"}
    if has_catalog:
        pq.write_table(pa.table({"item_id": array_of(kind, [id_of(n) for n in range(1, ITEMS + 1)])}), folder / "items")
        item["catalog"] = {"path": "items", "key": "item_id"}
    experiment = {
        "name": "tiny",
        "entities": {"user": {"id": "user_id", "history": {"column": "history"}}, "item": item},
        "domains": {
            "home": {
                "kind": "recommendation",
                "tasks": {"click": {"label": "clicked"}},
                "events": {"train": "events.parquet"},
            }
        },
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    status, said = here("train", folder, "--run-dir", folder / "run", *TRAIN)
    assert status == 0, said
    return folder / "run"
