import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundrank.dist.evaluate.popularity import PopularityCounts, popularity

events = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), min_size=1, max_size=60)


def columns(pairs):
    return np.array([p[0] for p in pairs], np.int64), np.array([p[1] for p in pairs], np.float32)


@given(events)
def test_every_item_against_a_loop(pairs):
    rows, labels = columns(pairs)
    rate = sum(labels) / len(labels)
    expected = [
        (sum(y for r, y in pairs if r == item) + 10 * rate) / (sum(r == item for r, _ in pairs) + 10)
        for item in range(12)
    ]
    expected[0] = rate
    scores = popularity(rows, labels, 12)
    assert scores.dtype == np.float32
    assert scores == pytest.approx(expected, rel=1e-6)
    assert scores[11] == pytest.approx(rate)  # never seen


@given(events, st.integers(0, 60))
def test_chunks_add_up(pairs, cut):
    rows, labels = columns(pairs)
    counts = PopularityCounts(10, n_domains=2, n_tasks=3)
    counts.add(1, 2, rows[:cut], labels[:cut])
    counts.add(0, 2, rows, 1 - labels)  # another domain's events stay out
    counts.add(1, 2, rows[cut:], labels[cut:])
    assert np.array_equal(counts.scores(1, 2), popularity(rows, labels, 10))
    assert not counts.scores(1, 0).any()


@pytest.mark.parametrize("row", [-1, 4])
def test_rows_outside_the_table_are_refused(row):
    with pytest.raises(ValueError, match="table of 4 rows"):
        popularity(np.array([1, row]), np.array([0, 1]), 4)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 rows with 1 labels"):
        popularity(np.array([1, 2]), np.array([1]), 4)
