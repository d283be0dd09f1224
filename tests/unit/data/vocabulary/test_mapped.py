"""Vocabularies in files that the ranks of a machine share."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from foundrank.data.errors import UserError
from foundrank.data.vocabulary import mapped
from foundrank.data.vocabulary.mapped import load_mapped, save_mapped
from foundrank.data.vocabulary.row_counts import RowCounts
from foundrank.data.vocabulary.vocabulary import HashedIds, Vocabulary

KEYS = st.one_of(
    st.sets(st.integers(0, 40), max_size=20), st.sets(st.integers(0, 2**64 - 1), max_size=20)
)  # near one another, and not


def vocabulary(keys: set[int]) -> Vocabulary:
    ids = np.array(sorted(keys, key=lambda key: key % 7), np.uint64)
    return Vocabulary(ids, np.arange(1, len(ids) + 1))


@given(first=KEYS, second=KEYS, asked=st.lists(st.integers(0, 2**64 - 1)), hits=arrays(np.int64, 5))
def test_tables_say_what_they_said_when_they_were_saved(tmp_path_factory, first, second, asked, hits):
    folder = tmp_path_factory.mktemp("tables")
    tables = {"a": vocabulary(first), "hashed": HashedIds(RowCounts.of(np.abs(hits // 2))), "b": vocabulary(second)}
    encodings = {name: table.encoding for name, table in tables.items()}
    loaded = load_mapped(folder, json.loads(json.dumps(save_mapped(folder, tables))), encodings)
    for name, table in tables.items():
        every = np.arange(table.rows)
        np.testing.assert_array_equal(loaded[name].counts[every], table.counts[every])
        assert loaded[name].rows == table.rows
        keys = np.array([*asked, *first, *second], np.uint64)
        found, wanted = loaded[name].lookup(keys), table.lookup(keys)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    for name in ("a", "b"):
        np.testing.assert_array_equal(loaded[name].keys, tables[name].keys)


def test_counts_of_all_buckets_are_read_as_older_versions_kept_them(tmp_path):
    for name, values in ((mapped.KEYS, "<u8"), (mapped.ROWS, "<i4")):
        np.save(tmp_path / name, np.zeros(0, values))
    np.save(tmp_path / mapped.COUNTS, np.array([0, 4, 0, 2]))
    plain = {"hashed": {"smallest": None, "keys": 0, "rows": 0, "counts": 4}}
    table = load_mapped(tmp_path, plain, {"hashed": "hash"})["hashed"]
    assert (table.rows, table.counts[np.arange(4)].tolist()) == (4, [0, 4, 0, 2])


@pytest.mark.parametrize("rows", [[2, 1], [1, 4]])
def test_rows_of_hashed_ids_that_are_none_are_refused(tmp_path, rows):
    plain = save_mapped(tmp_path, {"hashed": HashedIds(RowCounts.of(np.array([0, 4, 2, 0])))})
    np.save(tmp_path / mapped.KEYS, np.array(rows, np.uint64))
    with pytest.raises(UserError, match="are no rows"):
        load_mapped(tmp_path, plain, {"hashed": "hash"})


def test_what_is_no_vocabulary_is_refused(tmp_path):
    """A row beyond its table would be looked up beyond its memory."""
    plain = save_mapped(tmp_path, {"a": vocabulary({1, 2**60, 2**61})})
    rows = np.load(tmp_path / mapped.ROWS)
    for bad in (rows + 2, rows - 2, rows[:-1]):
        np.save(tmp_path / mapped.ROWS, bad)
        with pytest.raises(UserError, match="damaged"):
            load_mapped(tmp_path, plain, {"a": "vocab"})
    (tmp_path / mapped.ROWS).unlink()
    with pytest.raises(UserError, match="cannot be read"):
        load_mapped(tmp_path, plain, {"a": "vocab"})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (mapped.ROWS, lambda rows: rows.astype(float)),
        (mapped.COUNTS, lambda counts: counts - 5),
        (mapped.KEYS, lambda keys: keys.astype(np.int64)),
        (mapped.KEYS, lambda keys: keys[:, None]),
    ],
)
def test_other_numbers_are_refused(tmp_path, name, change):
    plain = save_mapped(tmp_path, {"a": vocabulary({1, 2**60, 2**61})})
    np.save(tmp_path / name, change(np.load(tmp_path / name)))
    with pytest.raises(UserError, match="holds other numbers"):
        load_mapped(tmp_path, plain, {"a": "vocab"})


@pytest.mark.parametrize("encoding", ["hash", "buckets"])
def test_a_table_of_another_encoding_is_refused(tmp_path, encoding):
    plain = save_mapped(tmp_path, {"a": vocabulary(set())})
    with pytest.raises(UserError, match="is no vocabulary"):
        load_mapped(tmp_path, plain, {"a": encoding})
