"""What rows take in memory is told before they are read."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.errors import UserError
from foundrank.data.events.event_files import iterate_group, read_group
from foundrank.data.storage import parquet_memory as parquet_size
from foundrank.data.storage.parquet_memory import check_size


@pytest.fixture(autouse=True)
def _a_megabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_size, "MOST_BYTES", 1 << 20)


def write(folder: Path, column: pa.Array, **options: object) -> Path:
    path = folder / "a.parquet"
    pq.write_table(pa.table({"a": column, "a.b": pa.nulls(len(column), pa.int8())}), path, **options)
    return path


def one_text(rows: int, size: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * size]))


LARGE = {
    "numbers": pa.array(np.zeros(200_000, np.int64)),
    "one text in all rows": one_text(100, 20_000),
    "lists of texts": pa.ListArray.from_arrays(pa.array([0, 50, 100], pa.int32()), one_text(100, 20_000)),
    "one long list": pa.ListArray.from_arrays(pa.array([0, 200_000], pa.int32()), pa.array(np.zeros(200_000))),
    "vectors that are null": pa.nulls(1000, pa.list_(pa.float32(), 1000)),
    "bytes": pa.DictionaryArray.from_arrays(pa.array(np.zeros(100, np.int32)), pa.array([b"x" * 20_000])),
    "a long text": pa.array(["x" * (2 << 20)]),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_large_is_told_however_small_the_file(tmp_path: Path, name: str):
    path = write(tmp_path, LARGE[name], compression="zstd")
    assert path.stat().st_size < 100_000
    for read in (lambda: read_group(str(path), 0, ["a"]), lambda: list(iterate_group(str(path), 0, ["a"], 1 << 20))):
        with pytest.raises(UserError, match=r"a\.parquet: row group 0: would take .* GiB of memory.*row_group_size"):
            read()
    if len(LARGE[name]) <= 1000:
        read_group(str(path), 0, ["a.b"])  # others are not looked at


SMALL = {
    "numbers": pa.array(np.zeros(50_000, np.int64)),
    "texts": pa.array([f"text {i}" for i in range(20_000)]),
    "texts again and again": pa.array([f"text {i % 100}" for i in range(20_000)]),
    "lists": pa.array([[1, 2], None, []] * 1000, pa.list_(pa.int64())),
    "none": pa.array([], pa.string()),
    "nothing": pa.nulls(100),
    "vectors": pa.array([[1.0] * 8, None] * 1000, pa.list_(pa.float32(), 8)),
    "lists of texts": pa.array([["a", "b"], None, ["c" * 100]] * 1000, pa.list_(pa.string())),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"version": "1.0"}])
def test_usual_columns_are_read(tmp_path: Path, name: str, options: dict[str, object]):
    path = write(tmp_path, SMALL[name], **options)
    for group in range(pq.read_metadata(path).num_row_groups):
        assert read_group(str(path), group, ["a"]).num_rows == len(SMALL[name])


def test_rows_that_are_read_a_few_at_a_time_may_be_many(tmp_path: Path):
    path = write(tmp_path, LARGE["numbers"])
    assert sum(table.num_rows for table in iterate_group(str(path), 0, ["a"], 1000)) == 200_000


def test_each_row_group_counts_for_itself(tmp_path: Path):
    path = write(tmp_path, LARGE["numbers"], row_group_size=50_000)
    with pq.ParquetFile(path) as file:
        check_size(file, range(4), ["a"], path)
