"""From sums of labels to rates: what is known of an id, part by part, and what is thought of one of which little is known."""

from typing import NamedTuple

import numpy as np

from .parts import Parts
from .rates import RateTable
from .so_far import IdSums

_LEAST, _MOST = 1.0, 1000.0  # labels that the prior stands for
_EDGE = 1e-6
_PENDING = 1_000_000
_UNREAD = 1e30


class CellSums:
    """Sums by cell, ``id * parts + part``, that come in pieces; merged whenever what is pending outgrows what is merged."""

    def __init__(self, tasks: int):
        self._cells = [np.zeros(0, np.int64)]
        self._sums = [np.zeros((0, 2 * tasks))]
        self._pending = 0

    def add(self, cells: np.ndarray, values: np.ndarray) -> None:
        """Adds the values of rows to their cells.

        Args:
            cells: ``[N]`` int64.
            values: ``[N, 2 T]`` float64, of each task the weight of the row's label, and the weighted label.
        """
        cells, values = _summed(cells, values)
        self._cells.append(cells)
        self._sums.append(values)
        self._pending += len(cells)
        if self._pending > max(len(self._cells[0]), _PENDING):
            self.merged()

    def merged(self) -> tuple[np.ndarray, np.ndarray]:
        """``[C]`` int64 cells, increasing, and ``[C, 2 T]`` float64, their sums."""
        cells, sums = _summed(np.concatenate(self._cells), np.concatenate(self._sums))
        self._cells, self._sums, self._pending = [cells], [sums], 0
        return cells, sums


class Labels(NamedTuple):
    """What training's labels of T tasks are like, in one domain or in all.

    Attributes:
        mean: ``[T]`` float64.
        deviation: ``[T]`` float64.
        binary: ``[T]`` bool, whether they are 0 and 1.
    """

    mean: np.ndarray
    deviation: np.ndarray
    binary: np.ndarray

    @classmethod
    def of(cls, moments: np.ndarray, binary: np.ndarray) -> "Labels":
        """Args: ``[T, 3]`` sums of weights, weighted labels and their weighted squares; ``[T]``."""
        n, total, squares = np.maximum(moments[:, 0], 1e-12), moments[:, 1], moments[:, 2]
        return cls(total / n, np.sqrt(np.maximum(squares / n - (total / n) ** 2, 1e-12)), binary)


def rate_table(
    cells: np.ndarray,
    sums: np.ndarray,
    parts: Parts,
    labels: list[Labels],
    moments: np.ndarray | None,
    priors: np.ndarray | None = None,
) -> tuple[RateTable, np.ndarray, IdSums]:
    """What is known of ids, from the sums of their labels.

    Args:
        cells: ``[C]`` int64, increasing: ``id * parts + part``.
        sums: ``[C, 2 T]`` float64, as of `CellSums`.
        parts: of the training rows.
        labels: of all domains together; or of each, and an id is of domain ``id % domains``.
        moments: ``[2 T, 2]`` mean and deviation of the columns; None, or NaN of a column: those over the training rows.
        priors: as of `IdSums`, by which earlier rates were made; None, or NaN: found from all sums.

    Returns:
        The table, those moments, and what ids have in all parts.
    """
    ids, part = np.divmod(cells, parts.count)
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    lengths = np.diff(starts, append=len(ids))
    totals = np.add.reduceat(sums, starts) if len(ids) else sums
    domains = len(labels)
    found = np.array(
        [_labels_of_prior(totals[ids[starts] % domains == number], of) for number, of in enumerate(labels)]
    )
    priors = found if priors is None else np.where(np.isnan(priors), found, priors)
    if parts.ordered:
        until = np.cumsum(sums, axis=0)
        until -= np.repeat(until[starts] - sums[starts], lengths, axis=0)
        known, of_training = until, until - sums
        at = ids * parts.stride + part
    else:
        of_training = np.repeat(totals, lengths, axis=0) - sums
        known = np.concatenate([of_training, totals])
        at = np.concatenate([ids * parts.stride + part, ids[starts] * parts.stride + parts.count])
    values, seen = np.zeros(known.shape), np.zeros(sums.shape)
    for number, (of, prior) in enumerate(zip(labels, priors, strict=True)):
        here, there = at // parts.stride % domains == number, ids % domains == number
        values[here], seen[there] = _shown(known[here], of, prior), _shown(of_training[there], of, prior)
    own = part >= parts.first
    found = _moments(seen[own], np.repeat(sums[own, 0::2], 2, axis=1))
    moments = found if moments is None else np.where(np.isnan(moments), found, moments)
    mean, deviation = moments.T
    order = np.argsort(at, kind="stable")
    values = np.pad(values[order], ((1, 0), (0, 0)))
    table = RateTable(np.append(-1, at[order]), ((values - mean) / deviation).astype(np.float32))
    return table, moments, IdSums(ids[starts], totals, priors)


def _labels_of_prior(totals: np.ndarray, labels: Labels) -> np.ndarray:
    """``[T]`` for how many labels the prior stands: as many as have a mean that varies as much as ids do, by the method of moments.

    Args:
        totals: ``[ids, 2 T]``, of each id in all parts.
        labels: of all these.
    """
    counts, within = totals[:, 0::2], labels.deviation**2
    n = np.maximum(counts.sum(0), 1e-12)
    far = np.where(counts > 0, totals[:, 1::2] / np.where(counts > 0, counts, 1) - labels.mean, 0)
    between = ((counts * far**2).sum(0) - (counts > 0).sum(0) * within) / n
    return ((within - between) / np.maximum(between, 1e-12)).clip(_LEAST, _MOST)


def _shown(sums: np.ndarray, labels: Labels, prior: np.ndarray) -> np.ndarray:
    """``[N, 2 T]`` float64: of each task how far the smoothed rate is from the mean of labels, and the logarithm of 1 + its count.

    Of labels of 0 and 1 it is the difference of log-odds, of others that of means in standard deviations.
    """
    counts = sums[:, 0::2].clip(0)
    rates = (sums[:, 1::2] + prior * labels.mean) / (counts + prior)
    far = (rates - labels.mean) / labels.deviation
    far = np.where(labels.binary, _log_odds(rates) - _log_odds(labels.mean), far)
    return np.stack([far, np.log1p(counts)], 2).reshape(sums.shape)


def _log_odds(rates: np.ndarray) -> np.ndarray:
    rates = rates.clip(_EDGE, 1 - _EDGE)
    return np.log(rates / (1 - rates))


def _moments(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``[2 T, 2]`` weighted mean and deviation of columns."""
    total = np.maximum(weights.sum(0), 1e-12)
    mean = (weights * values).sum(0) / total
    deviation = np.sqrt((weights * (values - mean) ** 2).sum(0) / total)
    # What all rows of training see alike, nothing learns to read: it is 0 for others, too.
    return np.stack([mean, np.where(deviation > 1e-6, deviation, _UNREAD)], 1)


def _summed(cells: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(cells):
        return cells, values
    order = np.argsort(cells, kind="stable")
    cells = cells[order]
    first = np.flatnonzero(np.diff(cells, prepend=cells[0] - 1))
    return cells[first], np.add.reduceat(values[order], first)
