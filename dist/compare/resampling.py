"""A number of some rows under many weightings of their users, exactly: what a bootstrap over users computes."""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_CELLS = 1 << 22  # replicates x users drawn at a time: 32 MB


class Statistic(Protocol):
    """A number of some rows, each of which belongs to one of U users."""

    def under(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """``[R]`` its values where users count ``weights [R, U]`` times; NaN where it is not defined."""
        ...


def drawn_users(users: int, replicates: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """``[R, U]`` how often each of U users is drawn, U draws with replacement in each replicate; some replicates at a time."""
    random = np.random.default_rng(seed)
    size = max(1, _CELLS // max(users, 1))
    for start in range(0, replicates, size):
        rows = min(size, replicates - start)
        drawn = [np.bincount(random.integers(users, size=users), minlength=users) for _ in range(rows)]
        yield np.stack(drawn).astype(np.float64)


class AucOfUsers:
    """AUC, ties counting one half: rows are put in order once, and each weighting is a cumulative sum."""

    def __init__(self, labels: NDArray, scores: NDArray, of_row: NDArray, weights: NDArray | None = None):
        """Args: ``[N]`` labels of 0 and 1, ``[N]`` scores, ``[N]`` the user of each row, ``[N]`` weights of rows or None."""
        positive = np.asarray(labels) > 0
        negatives = np.flatnonzero(~positive)[np.argsort(scores[~positive], kind="stable")]
        # For each positive row, how many negative ones have a lower score, and how many one that is not higher.
        self._lower, self._not_higher = (
            np.searchsorted(scores[negatives], scores[positive], side) for side in ("left", "right")
        )
        self._tied = bool((self._lower != self._not_higher).any())
        self._negatives, self._positives = of_row[negatives], of_row[positive]
        self._weights = None if weights is None else (weights[negatives], weights[positive])

    def under(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """As of `Statistic`; NaN where one class is missing."""
        return np.array([self._once(line) for line in weights])

    def _once(self, of_user: NDArray[np.float64]) -> float:
        negatives, positives = of_user[self._negatives], of_user[self._positives]
        if self._weights is not None:
            negatives, positives = negatives * self._weights[0], positives * self._weights[1]
        up_to = np.concatenate([[0.0], np.cumsum(negatives)])
        pairs = positives.sum() * up_to[-1]
        if not pairs:
            return np.nan
        lower = up_to[self._lower]
        not_higher = up_to[self._not_higher] if self._tied else lower
        return float((lower @ positives + not_higher @ positives) / (2 * pairs))


class OfSums:
    """A function of sums over rows, by each user's share in them."""

    def __init__(
        self,
        users: int,
        of_row: NDArray,
        columns: tuple[NDArray, ...],
        value: Callable[[NDArray], NDArray] = lambda sums: sums[0] / sums[1],
    ):
        """Args: U, ``[N]`` the user of each row, K columns ``[N]``, and what is made of their sums ``[K, R]``; by default a ratio."""
        sums = [np.bincount(of_row, np.asarray(column, np.float64), minlength=users) for column in columns]
        self._of_user, self._value = np.stack(sums, 1), value

    def under(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """As of `Statistic`."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._value((weights @ self._of_user).T)


class OfRows:
    """Any function of rows: computed anew for each weighting, of rows with weights or of rows drawn again and again."""

    def __init__(
        self,
        value: Callable[..., float],
        of_row: NDArray,
        columns: tuple[NDArray, ...],
        weights: NDArray | None,
        takes_weights: bool,
    ):
        """Args: what takes columns ``[N]`` (and ``weights``, if it ``takes_weights``), ``[N]`` users, the columns, ``[N]`` weights."""
        self._value, self._of_row, self._columns = value, of_row, columns
        self._weights, self._takes_weights = weights, takes_weights

    def under(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """As of `Statistic`."""
        return np.array([self._once(line[self._of_row]) for line in weights])

    def _once(self, of_row: NDArray[np.float64]) -> float:
        if not of_row.any():
            return np.nan
        if self._takes_weights:
            return self._value(*self._columns, weights=of_row if self._weights is None else of_row * self._weights)
        at = np.repeat(np.arange(len(of_row)), of_row.astype(np.int64))
        return self._value(*(column[at] for column in self._columns))
