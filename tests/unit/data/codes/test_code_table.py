"""Codes as a Parquet table, out of a store and in from elsewhere."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundrank.data.arrow.ids import id_keys
from foundrank.data.codes.code_store import commit_codes
from foundrank.data.codes.code_table import export_codes, read_code_table
from foundrank.data.content_kinds.codes import MOST_VALUES
from foundrank.data.errors import UserError

SIZES = (4, MOST_VALUES)
GOOD = {"key": pa.array([5, 3]), "codes": pa.array([[0, 9], [3, MOST_VALUES - 1]], pa.list_(pa.uint16()))}


def read(folder: Path, **columns: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    pq.write_table(pa.table(columns), folder / "codes.parquet")
    return read_code_table(str(folder / "codes.parquet"), SIZES)


@given(
    keys=st.one_of(
        st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, min_size=1, max_size=9).map(pa.array),
        st.lists(st.text(max_size=4), unique=True, min_size=1, max_size=9).map(pa.array),
    ),
    seed=st.integers(0, 99),
)
def test_what_is_exported_comes_in_again(tmp_path_factory, keys, seed):
    folder = tmp_path_factory.mktemp("table")
    codes = np.random.default_rng(seed).integers(0, SIZES, (len(keys), 2)).astype(np.uint16)
    levels = [{"values": size, "entropy": 0.0, "dead": 0} for size in SIZES]
    manifest = {"asked": {}, "catalog_fingerprint": "f", "levels": levels, "alike": 0, "largest": 1}
    (folder / "codes").mkdir()
    commit_codes(folder / "codes", keys, codes, b"", manifest, None)
    assert export_codes(folder / "codes", folder / "out.parquet") == len(keys)
    table = pq.read_table(folder / "out.parquet")
    assert table.to_pydict() == {"key": keys.to_pylist(), "codes": codes.tolist()}
    found, of_found = read_code_table(str(folder / "out.parquet"), SIZES)
    assert np.array_equal(found, id_keys(keys)[0])
    assert of_found.dtype == np.int64
    assert np.array_equal(of_found, codes)


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.int64()), pa.large_list(pa.int16()), pa.list_(pa.uint16(), 2), pa.list_(pa.uint64())],
    ids=str,
)
def test_lists_of_whole_numbers_of_any_type_are_read(tmp_path, kind):
    keys, codes = read(tmp_path, key=GOOD["key"], codes=pa.array([[0, 9], [3, 32767]], kind))
    assert keys.tolist() == [5, 3]
    assert codes.tolist() == [[0, 9], [3, 32767]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": pa.array([5, None])}, r"row 1 \(counting from 0\) has no key"),
        ({"key": pa.array([5, 5])}, "row 1 .* has the key of an earlier row"),
        ({"codes": pa.array([[0, 9], [3]])}, "row 1 .* has not 2 codes"),
        ({"codes": pa.array([None, [3, 2]])}, "row 0 .* has not 2 codes"),
        ({"codes": pa.array([[0, 9], [4, 2]])}, r"row 1 .* has a code outside its level \(4, 32768 values\)"),
        ({"codes": pa.array([[0, -9], [3, 2]])}, "row 0 .* has a code outside its level"),
        ({"codes": pa.array([[0, None], [3, 2]])}, "row 0 .* has a code outside its level"),
        ({"codes": pa.array([[0.0, 1.0], [3.0, 2.0]])}, "column 'codes': is list<.*double>"),
        ({"codes": pa.array(["0 9", "3 2"])}, "column 'codes': is string"),
    ],
    ids=["null key", "key twice", "short", "null list", "too large", "negative", "null code", "floats", "text"],
)
def test_what_cannot_be_codes_is_refused(tmp_path, changes, words):
    with pytest.raises(UserError, match=rf"codes.parquet.*{words}.*Write a column key"):
        read(tmp_path, **GOOD | changes)


def test_a_code_beyond_what_64_bits_with_a_sign_hold_is_refused(tmp_path):
    with pytest.raises(UserError, match="outside its level"):
        read(tmp_path, **GOOD | {"codes": pa.array([[0, 2**63 + 1], [3, 2]], pa.list_(pa.uint64()))})


def test_a_key_without_a_sign_is_an_id(tmp_path):
    with pytest.raises(UserError, match=r"holds neither integers nor strings"):
        read(tmp_path, **GOOD | {"key": pa.array([0.5, 1.5])})


@pytest.mark.parametrize("missing", ["key", "codes"])
def test_a_column_that_lacks_is_named(tmp_path, missing):
    with pytest.raises(UserError, match=f"has no column '{missing}'"):
        read(tmp_path, **{name: column for name, column in GOOD.items() if name != missing})


def test_no_file_and_no_parquet_are_told(tmp_path):
    with pytest.raises(UserError, match=r"gone.parquet: no such file"):
        read_code_table(str(tmp_path / "gone.parquet"), SIZES)
    (tmp_path / "text.parquet").write_text("key,codes\n1,2\n")
    with pytest.raises(UserError, match=r"text.parquet: cannot be read as Parquet"):
        read_code_table(str(tmp_path / "text.parquet"), SIZES)
