from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from foundrank.data.arrow.ids import hash_rows
from foundrank.data.errors import UserError
from foundrank.data.vocabulary.key_counts import HashedCounts
from foundrank.data.vocabulary.row_counts import RowCounts, seen
from foundrank.data.vocabulary.vocabulary import HashedIds, KeyIndex, Vocabulary

MODEST = settings(max_examples=50)
# Small ones make dense ranges (a lookup array), wide ones sparse ranges (a binary search); negative ints wrap round.
KEYS = st.one_of(st.integers(0, 30), st.integers(-20, 20), st.integers(2**63 - 9, 2**63 + 9), st.integers(0, 2**64 - 1))


def as_keys(values) -> np.ndarray:
    return np.array([v % 2**64 for v in values], np.uint64)


@st.composite
def keys_of_one_kind(draw, **sizes):
    kind = draw(st.sampled_from([st.integers(5, 40), st.integers(-20, 20), st.integers(2**64 - 30, 2**64 - 1), KEYS]))
    return draw(st.lists(kind, **sizes))


@MODEST
@given(keys_of_one_kind(max_size=40), keys_of_one_kind(max_size=40))
def test_lookup_equals_a_dict(values, others):
    keys = as_keys(dict.fromkeys(v % 2**64 for v in values))
    place = {int(k): i for i, k in enumerate(keys)}
    asked = as_keys([*values, *others, *(v + 1 for v in values), *(v - 1 for v in values), 0, 2**64 - 1])
    for first in (0, 1):
        found = KeyIndex(keys, first).lookup(asked)
        assert found.dtype == np.int32
        assert found.tolist() == [place.get(int(k), -1) + first for k in asked]


def test_dense_and_sparse_ranges_are_both_met():
    assert KeyIndex(np.arange(7, 100, dtype=np.uint64))._table is not None
    assert KeyIndex(np.array([0, 2**64 - 1], np.uint64))._table is None


@MODEST
@given(keys_of_one_kind(max_size=60), st.integers(1, 4))
def test_most_frequent_first_and_rare_ones_unknown(values, min_count):
    counts = Counter(v % 2**64 for v in values)
    keys = as_keys(counts)
    vocabulary = Vocabulary.from_counts(keys, np.array(list(counts.values()), np.int64), min_count)
    kept = sorted((k for k, n in counts.items() if n >= min_count), key=lambda k: (-counts[k], k))
    assert vocabulary.rows == len(kept) + 1
    assert vocabulary.counts.tolist() == [0, *(counts[k] for k in kept)]
    assert vocabulary.lookup(as_keys(kept)).tolist() == list(range(1, len(kept) + 1))
    rare = [k for k, n in counts.items() if n < min_count]
    assert vocabulary.lookup(as_keys(rare)).tolist() == [0] * len(rare)


def test_a_saved_vocabulary_is_the_same(tmp_path):
    vocabulary = Vocabulary.from_counts(as_keys([-5, 3, 2**64 - 1, 8]), np.array([2, 9, 4, 1]), 2)
    vocabulary.save(tmp_path / "v.parquet")
    loaded = Vocabulary.load(tmp_path / "v.parquet")
    asked = as_keys([3, 2**64 - 1, -5, 8, 77])
    assert loaded.lookup(asked).tolist() == vocabulary.lookup(asked).tolist() == [1, 2, 3, 0, 0]
    assert loaded.counts.tolist() == [0, 9, 4, 2]


def test_an_empty_vocabulary_knows_nothing(tmp_path):
    empty = Vocabulary(np.zeros(0, np.uint64), np.zeros(0, np.int64))
    empty.save(tmp_path / "v.parquet")
    for vocabulary in (empty, Vocabulary.load(tmp_path / "v.parquet")):
        assert vocabulary.rows == 1
        assert vocabulary.lookup(as_keys([0, 1])).tolist() == [0, 0]


def test_hashed_ids_of_older_versions(tmp_path):
    pq.write_table(pa.table({"count": [0, 4, 0, 2]}), tmp_path / "h.parquet")
    loaded = HashedIds.load(tmp_path / "h.parquet")
    assert loaded.counts[np.arange(loaded.rows)].tolist() == [0, 4, 0, 2]


@pytest.mark.parametrize(
    "columns", [{"row": [], "count": []}, {"row": [3, 2], "count": [1, 1]}, {"row": [0], "count": [1]}, {"row": [1]}]
)
def test_damaged_rows_of_hashed_ids_are_refused(tmp_path, columns):
    types = {"row": pa.uint64(), "count": pa.int64()}
    table = pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})
    pq.write_table(table, tmp_path / "h.parquet")
    with pytest.raises(UserError, match="damaged"):
        HashedIds.load(tmp_path / "h.parquet")


@given(arrays(np.int64, 9, elements=st.integers(0, 3)), arrays(np.int64, 9, elements=st.integers(0, 3)))
def test_counts_of_rows_are_those_of_an_array(first, second):
    one, other = RowCounts.of(first), RowCounts.of(second)
    asked = np.array([8, 0, 3, 3])
    np.testing.assert_array_equal(one[asked], first[asked])
    np.testing.assert_array_equal(one.plus(other)[np.arange(9)], first + second)
    for held in (one, first):
        rows, counts = seen(held)
        np.testing.assert_array_equal(rows, np.flatnonzero(first))
        np.testing.assert_array_equal(counts, first[first > 0])


def test_a_billion_buckets_take_what_the_ids_in_them_do(tmp_path):
    counted = HashedCounts(10**9)
    counted.add(as_keys([5, 5, 77]), np.ones(3, bool))
    counted.table().save(tmp_path / "h.parquet")
    loaded = HashedIds.load(tmp_path / "h.parquet")
    assert loaded.rows == 10**9 + 1
    assert loaded.counts[loaded.lookup(as_keys([77, 5, 6]))].tolist() == [1, 2, 0]
    assert loaded.counts.at.nbytes + loaded.counts.counts.nbytes < 100


@pytest.mark.parametrize("buckets", [1, 10, 1000])
def test_hashed_ids(tmp_path, buckets):
    counts = np.arange(buckets + 1)
    HashedIds(RowCounts.of(counts)).save(tmp_path / "h.parquet")
    loaded = HashedIds.load(tmp_path / "h.parquet")
    keys = as_keys(range(-50, 50))
    assert loaded.rows == buckets + 1
    assert loaded.counts[np.arange(buckets + 1)].tolist() == counts.tolist()
    assert loaded.lookup(keys).tolist() == hash_rows(keys, buckets).tolist()
    assert loaded.lookup(keys).min() >= 1
    assert loaded.lookup(keys).max() <= buckets


@given(st.dictionaries(st.integers(0, 30), st.integers(1, 9)), st.dictionaries(st.integers(0, 30), st.integers(1, 9)))
def test_an_extended_vocabulary_keeps_its_rows_and_adds_up_counts(old, new):
    def made(counts: dict[int, int]) -> Vocabulary:
        keys = np.array(list(counts), np.uint64)
        return Vocabulary.from_counts(keys, np.array(list(counts.values()), np.int64), 1)

    before, after = made(old), made(old).extended(made(new))
    np.testing.assert_array_equal(after.keys[: before.rows - 1], before.keys)
    every = np.array(sorted(old | new), np.uint64)
    assert after.rows == len(every) + 1
    counted = dict(zip(every.tolist(), after.counts[after.lookup(every)].tolist(), strict=True))
    assert counted == {key: old.get(key, 0) + new.get(key, 0) for key in counted}
    assert after.counts[0] == 0
