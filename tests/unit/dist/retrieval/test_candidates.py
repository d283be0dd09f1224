"""Items drawn at random for each row."""

import numpy as np
import pytest

from foundrank.dist.retrieval.candidates import drawn_negatives

NOBODY = (np.zeros(0, np.int64), np.zeros(0, np.int64))


@pytest.mark.parametrize(("items", "wanted"), [(1000, 20), (60, 20), (21, 20), (10, 20)])
def test_each_row_draws_different_items_that_it_may(items, wanted):
    rows = np.arange(50, dtype=np.uint64)
    pool = np.arange(items)[np.arange(items) % 5 > 0]
    left_out = np.repeat(np.arange(50), 3), np.tile([1, 2, 3], 50)
    drawn = drawn_negatives(rows, pool, left_out, items, wanted)
    there = min(wanted, len(pool) - 3)
    for line in drawn:
        assert (line[there:] == -1).all()
        assert len(set(line[:there])) == there
        assert set(line[:there]) <= set(pool.tolist()) - {1, 2, 3}
    assert len({tuple(line) for line in drawn}) > 1


@pytest.mark.parametrize("wanted", [10, 60])
def test_draws_are_of_keys_wherever_items_stand(wanted):
    random = np.random.default_rng(0)
    keys, rows = np.arange(100) * 7, np.arange(20, dtype=np.uint64)
    found = []
    for _ in range(2):
        shuffled = random.permutation(keys)
        drawn = drawn_negatives(rows, np.argsort(shuffled), NOBODY, len(keys), wanted)
        found.append(shuffled[drawn])
    assert np.array_equal(*found)


def test_a_row_draws_the_same_in_any_company():
    rows, pool = np.arange(100, dtype=np.uint64), np.arange(500)
    every = drawn_negatives(rows, pool, NOBODY, 500, 30)
    some = drawn_negatives(rows[40:60], pool, NOBODY, 500, 30)
    assert np.array_equal(every[40:60], some)
    # Another row that has to draw many more, since all but a few are left out for it, changes nothing.
    greedy = np.repeat(0, 460), np.arange(460)
    assert np.array_equal(drawn_negatives(rows[:5], pool, greedy, 500, 30)[1:], every[1:5])


def test_all_items_are_drawn_as_often():
    drawn = drawn_negatives(np.arange(20_000, dtype=np.uint64), np.arange(100), NOBODY, 100, 10)
    assert np.bincount(drawn.ravel(), minlength=100) == pytest.approx(np.full(100, 2000), rel=0.12)
