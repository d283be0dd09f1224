"""Numbers under weights of users, beside those of rows that are repeated as often."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.dist.compare.resampling import AucOfUsers, drawn_users
from foundrank.dist.compare.statistics import LabelledRows, measured, numbers, numbers_of_ranks
from foundrank.model.tasks.binary import Binary
from foundrank.model.tasks.metrics import auc
from foundrank.model.tasks.regression import Regression

USERS, ROWS = 6, 40


def repeated(of_row: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows there are where users are there so many times, and the copy of the user that each belongs to."""
    at, copies = [], []
    for user, of_user in enumerate(times.astype(int)):
        mine = np.flatnonzero(of_row == user)
        for copy in range(of_user):
            at.append(mine)
            copies.append(np.full(len(mine), 100 * user + copy))
    return np.concatenate([np.zeros(0, int), *at]), np.concatenate([np.zeros(0, int), *copies])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_every_number_under_weights_is_that_of_repeated_users(seed, weighted):
    random = np.random.default_rng(seed)
    of_row = random.integers(USERS, size=ROWS)
    lists = 10 * of_row + random.integers(2, size=ROWS)  # two of each user
    labels, scores = random.integers(2, size=ROWS), random.integers(1, 6, size=ROWS) / 7
    weights = random.random(ROWS) if weighted else None
    times = random.integers(4, size=(3, USERS)).astype(float)
    for task in (Binary(label="click"), Regression(kind="regression", label="stars")):
        rows = LabelledRows(task, labels, of_row, USERS, of_row, lists, np.ones(ROWS, bool), weights)
        found = numbers(rows, scores)
        whole = task.metrics(labels, scores, of_row, lists, slice(None), weights)
        keys = [metric.key for metric in measured(task)]
        assert list(found) == keys if isinstance(task, Binary) else [*found] == keys
        for key, number in found.items():
            assert number.value == pytest.approx(whole[key], nan_ok=True) if whole[key] is not None else True
            got = number.under.under(times)
            for line, value in zip(times, got, strict=True):
                at, copy = repeated(of_row, line)
                if not len(at):
                    assert np.isnan(value)
                    continue
                again = None if weights is None else weights[at]
                told = task.metrics(labels[at], scores[at], copy, 1000 * copy + lists[at], slice(None), again)[key]
                assert value == pytest.approx(np.nan if told is None else told, nan_ok=True), key


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_auc_under_weights_is_that_of_repeated_rows_ties_and_all(seed):
    random = np.random.default_rng(seed)
    labels, scores = random.integers(2, size=30), random.integers(5, size=30) / 4
    of_row, weights = random.integers(6, size=30), random.integers(4, size=(3, 6)).astype(float)
    got = AucOfUsers(labels, scores, of_row).under(weights)
    for line, value in zip(weights, got, strict=True):
        at = np.repeat(np.arange(30), line[of_row].astype(int))
        assert value == pytest.approx(auc(labels[at], scores[at]), nan_ok=True)


def test_ranks_under_weights():
    ranks, of_row = np.array([0, 9, 10, 3]), np.array([0, 0, 1, 2])
    found = numbers_of_ranks(ranks, np.array([1.0, 0.5, 0.4, 0.9]), of_row, 3)
    assert found["percentile"].value == pytest.approx(0.7)
    assert found["percentile"].under.under(np.array([[1.0, 3, 0]])) == pytest.approx((1 + 0.5 + 3 * 0.4) / 5)
    assert found["hr@10"].value == 3 / 4
    assert found["ndcg@10"].value == pytest.approx((1 + 1 / np.log2(11) + 1 / np.log2(5)) / 4)
    assert found["hr@10"].under.under(np.array([[1.0, 3, 0], [0, 1, 1]])).tolist() == [2 / 5, 1 / 2]


def test_users_are_drawn_as_many_as_there_are_in_pieces_or_not():
    drawn = np.concatenate(list(drawn_users(300_000, 30, 5)))
    assert drawn.shape == (30, 300_000)
    assert set(drawn.sum(1)) == {300_000}
    assert drawn.mean() == 1
    assert drawn.var() == pytest.approx(1, abs=0.01)
    assert not np.array_equal(drawn[0], drawn[-1])
    assert np.array_equal(next(drawn_users(300_000, 1, 5))[0], drawn[0])
