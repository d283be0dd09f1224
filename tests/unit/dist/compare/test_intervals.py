"""Intervals: that they hold what is true as often as they say, and what makes them narrow or wide."""

import numpy as np
import pytest

from foundrank.dist.compare.intervals import MEAN, TestRows, difference_intervals, interval_of_difference
from foundrank.dist.study.results import Result, Surface, difference


def paired(random, users, rows, first, second, seeds=2):
    """Rows whose scores are the label times a strength plus noise, one strength per model."""
    labels = random.integers(2, size=rows)
    sides = [strength * labels + random.normal(size=(seeds, rows)) for strength in (first, second)]
    return TestRows(labels, random.integers(users, size=rows), np.zeros(rows, bool), *sides)


def test_paired_intervals_know_a_better_model():
    random = np.random.default_rng(0)
    domains = {"better": paired(random, 200, 2000, 2.0, 1.0), "same": paired(random, 200, 2000, 1.0, 1.0)}
    found = difference_intervals(domains)
    assert found["better"][0] > 0.05
    assert found["same"][0] < 0 < found["same"][1]
    assert found["same"][0] < found[MEAN][0] < found["better"][0]
    assert found == difference_intervals(domains)


def test_pairing_takes_out_what_both_models_share():
    random = np.random.default_rng(0)
    rows = paired(random, 400, 400, 1.0, 1.0, seeds=1)
    near = TestRows(rows.labels, rows.users, rows.cold, rows.first, rows.first + 0.01 * random.normal(size=(1, 400)))
    widths = [np.ptp(difference_intervals({"d": d})["d"]) for d in (rows, near)]
    assert widths[1] < widths[0] / 10


def test_a_user_is_drawn_with_all_its_rows():
    """The same rows, each ten times: as the same users' the interval stays, as ten times as many users' it shrinks."""
    once = paired(np.random.default_rng(1), 300, 300, 1.0, 0.5, seeds=1)
    ten = once.take(np.repeat(np.arange(300), 10))
    strangers = TestRows(ten.labels, np.arange(3000), ten.cold, ten.first, ten.second)
    widths = [np.ptp(difference_intervals({"d": d})["d"]) for d in (once, ten, strangers)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    assert widths[2] < widths[0] / 2


@pytest.mark.parametrize("paired_seeds", [True, False])
@pytest.mark.parametrize(
    ("seeds", "of_seeds", "of_users"), [(1, 0.0, 1.0), (5, 0.05, 1.0), (5, 0.5, 0.5), (3, 1.0, 0.0), (2, 0.3, 1.0)]
)
@pytest.mark.parametrize("gap", [0.0, 1.5])
def test_ninety_five_of_a_hundred_intervals_hold_the_truth(seeds, of_seeds, of_users, gap, paired_seeds):
    """Numbers that are a mean over users, with effects of user, of seed and of both: every part of their variance is known."""
    held = decided = 0
    times, users, draws = 400, 40, 200
    for trial in range(times):
        random = np.random.default_rng(trial)
        weights = random.multinomial(users, np.full(users, 1 / users), size=draws)
        user = of_users * random.normal(size=users)
        sides = []
        for side, truth in enumerate((gap, 0.0)):
            mine = (
                truth
                + of_seeds * random.normal(size=(seeds, 1))
                + user * (side == 0)
                + 0.5 * random.normal(size=(seeds, users))
            )
            sides.append(mine @ weights.T / users)
        low, high = interval_of_difference(*sides, users, paired_seeds, seed=trial)
        held += low <= gap <= high
        decided += low > 0
    assert held >= 0.92 * times
    if seeds == 1 or seeds == 5:
        assert held <= 0.985 * times  # and they are no wider than they have to be
    if gap == 0:
        assert decided < 0.05 * times


def test_few_seeds_make_wide_intervals_where_seeds_differ():
    """Plain percentiles of drawn seeds would be a third too narrow."""
    random = np.random.default_rng(0)
    values = np.array([[-0.01], [0.0], [0.01]]) + 1e-6 * random.normal(size=(3, 1000))
    low, high = interval_of_difference(values, np.zeros((3, 1000)), users=1000, paired=True)
    half = 4.303 * 0.01 / np.sqrt(3)  # Student's t of two degrees of freedom
    assert high == pytest.approx(half, rel=0.12)
    assert low == pytest.approx(-half, rel=0.12)


def test_seeds_that_go_together_are_drawn_together():
    random = np.random.default_rng(0)
    of_seed = random.normal(size=(5, 1))
    first, second = (of_seed + 0.01 * random.normal(size=(5, 500)) for _ in range(2))
    together, apart = (np.ptp(interval_of_difference(first, second, 100, paired)) for paired in (True, False))
    assert together < apart / 20


def test_no_interval_of_one_user_or_of_numbers_that_are_rarely_defined():
    numbers = np.random.default_rng(0).normal(size=(2, 400))
    assert np.isnan(interval_of_difference(numbers, numbers + 1, 1, True)).all()
    rarely = np.where(np.arange(400) < 220, np.nan, numbers)
    assert np.isnan(interval_of_difference(rarely, numbers, 50, True)).all()
    sometimes = np.where(np.arange(400) < 100, np.nan, numbers)
    assert np.isfinite(interval_of_difference(sometimes, numbers, 50, True)).all()


def test_the_study_has_these_intervals():
    rows = {name: paired(np.random.default_rng(n), 100, 500, 1.5, 1.0, seeds=3) for n, name in enumerate(("a", "b"))}
    sides = []
    for name in ("first", "second"):
        surfaces = {
            (domain, "buy"): Surface(of.labels, of.users, np.zeros(500), None, getattr(of, name))
            for domain, of in rows.items()
        }
        sides.append(Result(surfaces, 3, 1.0))
    gap, low, high = difference(*sides)
    found = difference_intervals({f"{domain}/buy": of for domain, of in rows.items()}, replicates=500)
    assert (low, high) == found[MEAN]
    assert low < gap < high
