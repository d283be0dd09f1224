"""Two models on the same test rows: the interval of the difference of their AUCs, over users and over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REPLICATES = 1000
MEAN = "**mean**"
_CELLS = 1 << 23  # replicates x rows weighed at a time: 64 MB of float64


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
) -> dict[str, tuple[float, float]]:
    """95 % intervals of (first - second) in mean AUC over seeds, per domain and for their mean.

    A paired bootstrap over clusters (Efron and Tibshirani, 1993): each replicate draws users with replacement, the same
    ones for both models and in every domain, since a user's rows are not independent; and draws each model's seeds with
    replacement. Ends are percentiles 2.5 and 97.5.

    Args:
        domains: name -> rows; a domain with one class only is left out.
        seed: of the draws.
        replicates: draws.

    Returns:
        name -> (low, high), and `MEAN` where there are several domains.
    """
    random = np.random.default_rng(seed)
    domains = {name: rows for name, rows in domains.items() if len(np.unique(rows.labels)) == 2}
    if not domains:
        return {}
    users = np.unique(np.concatenate([rows.users for rows in domains.values()]))
    drawn = random.multinomial(len(users), np.full(len(users), 1 / len(users)), size=replicates)
    differences = {}
    for name, rows in domains.items():
        of_row = np.searchsorted(users, rows.users)
        sides = []
        for scores in (rows.first, rows.second):
            picked = random.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), size=replicates)
            aucs = np.stack([weighted_auc(rows.labels, line, drawn, of_row) for line in scores], 1)
            sides.append((aucs * picked).sum(1) / len(scores))
        differences[name] = sides[0] - sides[1]
    if len(differences) > 1:
        differences[MEAN] = np.mean(list(differences.values()), axis=0)
    return {name: _percentiles(values) for name, values in differences.items()}


def weighted_auc(labels: NDArray, scores: NDArray, weights: NDArray, of_row: NDArray) -> NDArray[np.float64]:
    """AUC under each of several weightings of the rows; ties count one half.

    Args:
        labels: ``[N]`` 0 or 1.
        scores: ``[N]``.
        weights: ``[R, U]`` how often each of U users counts in each replicate.
        of_row: ``[N]`` the user of each row.

    Returns:
        ``[R]``; NaN where a replicate has one class only.
    """
    positive = np.asarray(labels) > 0
    negatives = np.flatnonzero(~positive)[np.argsort(scores[~positive], kind="stable")]
    # For each positive row, how many negative ones have a lower score, and how many one that is not higher.
    lower, not_higher = (np.searchsorted(scores[negatives], scores[positive], side) for side in ("left", "right"))
    out = []
    for part in np.array_split(weights, max(1, len(weights) * len(scores) // _CELLS)):
        of_user = np.ascontiguousarray(part.T)
        up_to = np.zeros((len(negatives) + 1, len(part)), np.int64)
        np.cumsum(of_user[of_row[negatives]], axis=0, out=up_to[1:])
        of_positive = of_user[of_row[positive]]
        below = ((up_to[lower] + up_to[not_higher]) * of_positive).sum(0)
        with np.errstate(invalid="ignore"):
            out.append(below / (2 * of_positive.sum(0) * up_to[-1]))
    return np.concatenate(out)


def _percentiles(values: NDArray | Sequence[float]) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
