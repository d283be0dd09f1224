"""The interval of the difference between two models on the same rows, over users and over seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .resampling import AucOfUsers, drawn_users

REPLICATES = 1000
MEAN = "**mean**"
_LEAST_DEFINED = 0.5  # of the replicates; a number that is defined in fewer has no interval


class Interval(NamedTuple):
    """Ends of a 95 % interval; NaN where there is none."""

    low: float
    high: float


NO_INTERVAL = Interval(np.nan, np.nan)


def interval_of_difference(first: NDArray, second: NDArray, users: int, paired: bool, seed: int = 0) -> Interval:
    """The 95 % interval of (first - second), means over seeds, over the choice of users and of seeds.

    Users: a paired bootstrap over clusters (Efron and Tibshirani, 1993), each replicate having drawn users with replacement, the same
    ones for both sides, since a user's rows are not independent. Seeds: a normal deviation with the variance of their mean, less
    what differs between seeds because of the users at hand, which is in the users' part already (Cameron, Gelbach and Miller,
    2011). Both variances are estimates, of few seeds rough ones: in each replicate a variance is multiplied by its degrees of freedom
    over a drawn chi-squared, which makes a normal deviation one of Student's t (the Behrens-Fisher distribution, for the sum). Of
    one seed a side, the interval is over users alone.

    Args:
        first: ``[S, R]`` the number of each seed's model in each replicate of users.
        second: ``[S', R]`` the same.
        users: how many there are to draw from.
        paired: whether seeds of both sides go together, S = S'; then it is their differences that vary.
        seed: of the draws.
    """
    if users < 2:
        return NO_INTERVAL
    defined = np.isfinite(first).all(0) & np.isfinite(second).all(0)
    if defined.mean() < _LEAST_DEFINED:
        return NO_INTERVAL
    random = np.random.default_rng(seed)
    first, second = first[:, defined], second[:, defined]
    of_users = first.mean(0) - second.mean(0)
    middle, replicates = of_users.mean(), len(of_users)

    def stretch(freedom: int) -> NDArray[np.float64]:
        return freedom / random.chisquare(freedom, size=replicates)

    deviation = (of_users - middle) * np.sqrt(users / (users - 1) * stretch(users - 1))
    for values in [first - second] if paired else [first, second]:
        if (seeds := len(values)) == 1:
            continue
        gaps = values.mean(1) - values.mean()
        of_mean = gaps.var(ddof=1) / seeds
        shared = ((values - values.mean(0) - gaps[:, None]) ** 2).sum() / (seeds * (seeds - 1) * replicates)
        own = np.maximum(of_mean * stretch(seeds - 1) - shared, 0)
        deviation = deviation + np.sqrt(own) * random.normal(size=replicates)
    low, high = np.percentile(deviation, [2.5, 97.5])
    return Interval(float(middle + low), float(middle + high))


@dataclass(frozen=True)
class TestRows:
    """Labelled test rows of one domain and task, as two models see them.

    Attributes:
        labels: ``[N]`` 0 or 1.
        users: ``[N]`` integer key of each row's user.
        cold: ``[N]`` bool, whether the item was never seen in training.
        first: ``[S, N]`` scores of the first model, a line per seed.
        second: ``[S, N]`` scores of the second.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    labels: NDArray
    users: NDArray
    cold: NDArray[np.bool_]
    first: NDArray
    second: NDArray

    def take(self, at: NDArray) -> "TestRows":
        """The rows at positions, or where a mask says so."""
        return TestRows(self.labels[at], self.users[at], self.cold[at], self.first[:, at], self.second[:, at])


def difference_intervals(
    domains: Mapping[str, TestRows], seed: int = 0, replicates: int = REPLICATES
) -> dict[str, Interval]:
    """Intervals of (first - second) in mean AUC over seeds, per domain and for their mean, as of `interval_of_difference`.

    A replicate draws the same users in every domain; the seeds of the two models are drawn apart.

    Args:
        domains: name -> rows; a domain with one class only is left out.
        seed: of the draws.
        replicates: draws.

    Returns:
        name -> (low, high), and `MEAN` where there are several domains.
    """
    domains = {name: rows for name, rows in domains.items() if len(np.unique(rows.labels)) == 2}
    if not domains:
        return {}
    users = np.unique(np.concatenate([rows.users for rows in domains.values()]))
    found: dict[str, tuple[NDArray, NDArray]] = {}
    of_domain = {name: len(np.unique(rows.users)) for name, rows in domains.items()}
    for name, rows in domains.items():
        of_row = np.searchsorted(users, rows.users)
        sides = [[AucOfUsers(rows.labels, line, of_row) for line in scores] for scores in (rows.first, rows.second)]
        drawn = [
            [[auc.under(weights) for auc in side] for side in sides]
            for weights in drawn_users(len(users), replicates, seed)
        ]
        first, second = (np.concatenate([part[side] for part in drawn], 1) for side in (0, 1))
        found[name] = first, second
    if len(found) > 1:
        first, second = (np.mean([sides[n] for sides in found.values()], axis=0) for n in (0, 1))
        found[MEAN], of_domain[MEAN] = (first, second), len(users)
    return {
        name: interval_of_difference(first, second, of_domain[name], paired=False, seed=seed)
        for name, (first, second) in found.items()
    }
