"""Counting ids: every one as often as it came, in bounded memory."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.arrow.ids import hash_rows
from foundrank.data.vocabulary.key_counts import ExactCounts, HashedCounts
from foundrank.data.vocabulary.vocabulary import HashedIds

PARTS = st.lists(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), st.booleans()), max_size=8), max_size=6)


@settings(max_examples=40)
@given(PARTS, st.booleans(), st.booleans(), st.booleans())
def test_key_counts_equal_a_counter(parts, weighted, hashed, merge_often):
    counts = HashedCounts(7) if hashed else ExactCounts(2)
    expected: Counter[int] = Counter()
    for part in parts:
        part = [(key + (key % 2 << 40), weight, kept) for key, weight, kept in part]  # small keys and large ones
        keys, weights, valid = (np.array([row[i] for row in part]) for i in range(3))
        counts.add(keys.astype(np.uint64), valid.astype(bool), weights if weighted else None)
        if merge_often and isinstance(counts, ExactCounts):
            counts._merge()
            if counts._small_keys:
                counts._count_small()
        for key, weight, kept in part:
            expected[key] += (weight if weighted else 1) * kept
    table = counts.table()
    if isinstance(table, HashedIds):
        buckets = np.zeros(8, np.int64)
        for key, n in expected.items():
            buckets[hash_rows(np.array([key], np.uint64), 7)[0]] += n
        assert table.counts[np.arange(8)].tolist() == buckets.tolist()
    else:
        kept = {k: n for k, n in expected.items() if n >= 2}
        assert dict(zip(table.keys.tolist(), table.counts[1:].tolist(), strict=True)) == kept


@pytest.mark.parametrize("large", [0, 2**40])
def test_pending_counts_are_merged_before_they_outgrow_memory(large):
    counts = ExactCounts()
    for start in range(0, 4_000_000, 400_000):
        keys = np.arange(start // 2, start // 2 + 400_000, dtype=np.uint64)  # each key comes twice
        counts.add(keys + np.uint64(large), np.ones(len(keys), bool))
        assert sum(len(keys) for keys, _ in counts._parts) <= 3 * 2_000_000
        assert len(counts._parts) <= 4
        assert sum(map(len, counts._small_keys)) <= 1_000_000
    table = counts.table()
    assert table.rows == 2_200_001
    assert table.counts.sum() == 4_000_000
    assert Counter(table.counts.tolist()) == {0: 1, 1: 400_000, 2: 1_800_000}
