"""Exact metrics of predictions: no bins, no samples, ties counted as what they are.

Everything is NumPy over whole columns, O(n log n). Labels are 0 or 1 (any numeric or bool dtype); scores are floats.
Weights, where there are any, are ``[N]`` floats from 0 up: a row of weight 2 counts as two such rows, one of weight 0 as none.
A score that is NaN makes a ranking metric NaN: a diverged model must not look like a ranking.
"""

import math
from typing import NamedTuple

import numpy as np

from ...data.arrow.ids import mix
from ...data.config.sections.task import Array

CLIP = 1e-7
RANKING_K = 10


def auc(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, a tie counting one half.

    Exact for any number of rows and any positive rate; a binned AUC is far off at click rates below one percent.

    Args:
        labels: ``[N]`` 0 or 1.
        scores: ``[N]`` float; higher means more likely positive.
        weights: ``[N]``; a pair counts by the product of its two.

    Returns:
        A value in [0, 1]; NaN when one class is missing.

    Source: Mann and Whitney (1947); Hanley and McNeil (1982).
    """
    if weights is not None:
        return gauc(labels, scores, np.zeros(len(labels), np.uint64), weights)
    positive = np.asarray(labels) > 0
    scores = np.asarray(scores)
    positives, negatives = np.sort(scores[positive]), np.sort(scores[~positive])
    # NaN sorts last.
    if not len(positives) or not len(negatives) or np.isnan(positives[-1]) or np.isnan(negatives[-1]):
        return math.nan
    below = int(np.searchsorted(negatives, positives, side="left").sum(dtype=np.int64))
    not_above = int(np.searchsorted(negatives, positives, side="right").sum(dtype=np.int64))
    return (below + not_above) / (2 * len(positives) * len(negatives))


def gauc(labels: Array, scores: Array, groups: Array, weights: Array | None = None) -> float:
    """AUC within each group, averaged with the groups' rows as weights, over the groups that have both classes.

    Args:
        labels: ``[N]`` 0 or 1.
        scores: ``[N]`` float.
        groups: ``[N]`` int64 or uint64, usually the user.
        weights: ``[N]``; within a group as of `auc`, and a group counts by the sum of its rows'.

    Returns:
        A value in [0, 1]; NaN when no group has both classes.

    Source: Zhou et al., Deep Interest Network (2018).
    """
    return gauc_and_uauc(labels, scores, groups, weights)[0]


def uauc(labels: Array, scores: Array, groups: Array, weights: Array | None = None) -> float:
    """AUC within each group, averaged over the groups that have both classes, each counting the same.

    Arguments as of `gauc`; weights count within a group alone. NaN when no group has both classes.

    Source: Zhou et al., Deep Interest Network (2018), whose GAUC it is without the weights.
    """
    return gauc_and_uauc(labels, scores, groups, weights)[1]


def gauc_and_uauc(labels: Array, scores: Array, groups: Array, weights: Array | None = None) -> tuple[float, float]:
    """`gauc` and `uauc`, whose arguments it takes: rows are put in order once."""
    return means_of_aucs(*group_aucs(labels, scores, groups, weights))


def means_of_aucs(found: Array, counts: Array) -> tuple[float, float]:
    """`gauc` and `uauc`, of what `group_aucs` gives."""
    both = ~np.isnan(found)
    if not both.any():
        return math.nan, math.nan
    return float(np.average(found[both], weights=counts[both])), float(found[both].mean())


def group_aucs(labels: Array, scores: Array, groups: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """The AUC of each of G groups, in their rising order.

    Arguments as of `gauc`.

    Returns:
        ``[G]`` float64, NaN for a group without both classes, and for all where a score is NaN; ``[G]`` its rows, or their weight.
    """
    if not len(labels):
        return np.zeros(0), np.zeros(0)
    ties = _tie_blocks(labels, scores, groups, weights)
    if np.isnan(scores).any():
        return np.full(len(ties.first), np.nan), ties.rows_of_group
    negatives = ties.negatives
    before = np.cumsum(negatives) - negatives
    before -= np.repeat(before[ties.first], ties.blocks_of_group)
    twice_right = np.add.reduceat(ties.positives * (2 * before + negatives), ties.first)
    positives_of_group = np.add.reduceat(ties.positives, ties.first)
    pairs = positives_of_group * np.add.reduceat(negatives, ties.first)
    with np.errstate(invalid="ignore"):
        return np.where(pairs > 0, twice_right / (2 * pairs), np.nan), ties.rows_of_group


def ndcg_at_k(labels: Array, scores: Array, groups: Array, k: int = RANKING_K, weights: Array | None = None) -> float:
    """Normalised discounted cumulative gain of the first ``k`` places, averaged over the groups with a positive.

    Gains are 0 and 1, the discount of place r (from 1) is 1 / log2(r + 1). Rows with equal scores share the mean
    discount of the places they fill together: the expectation over all orders of a tie, so neither the order of the
    rows nor a constant score is rewarded.

    Args:
        labels: ``[N]`` 0 or 1.
        scores: ``[N]`` float.
        groups: ``[N]`` int64 or uint64, usually the result list.
        k: places that count, at least 1.
        weights: ``[N]``; a group counts by the mean of its rows'. Gains are what they are.

    Returns:
        A value in [0, 1]; NaN when no group has a positive.

    Source: Järvelin and Kekäläinen (2002); ties after McSherry and Najork (2008).
    """
    found, counts = group_ndcgs(labels, scores, groups, k, weights)
    some = ~np.isnan(found)
    return mean(found[some], None if weights is None else counts[some]) if some.any() else math.nan


def group_ndcgs(
    labels: Array, scores: Array, groups: Array, k: int = RANKING_K, weights: Array | None = None
) -> tuple[Array, Array]:
    """The NDCG of each of G groups, in their rising order.

    Arguments as of `ndcg_at_k`.

    Returns:
        ``[G]`` float64, NaN for a group without a positive, and for all where a score is NaN; ``[G]`` how much it counts in the mean.
    """
    if not len(labels):
        return np.zeros(0), np.zeros(0)
    ties = _tie_blocks(labels, scores, groups)
    counts = np.ones(len(ties.first))
    if weights is not None:
        _, group_of_row = np.unique(groups, return_inverse=True)  # in rising order, as the blocks are
        counts = np.bincount(group_of_row, weights) / ties.rows_of_group
    if np.isnan(scores).any():
        return np.full(len(ties.first), np.nan), counts
    discount = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))))
    # Blocks are in rising order of score: a block's first place is what is left above it in its group.
    last = np.repeat(ties.rows_of_group, ties.blocks_of_group) - ties.starts
    share = discount[np.minimum(last, k)] - discount[np.minimum(last - ties.sizes, k)]
    gained = np.add.reduceat(ties.positives / ties.sizes * share, ties.first)
    positives_of_group = np.add.reduceat(ties.positives, ties.first)
    some = positives_of_group > 0
    found = np.full(len(some), np.nan)
    found[some] = gained[some] / discount[np.minimum(positives_of_group[some], k)]
    return found, counts


def apart(groups: Array, known: Array) -> Array:
    """Groups in which each row that names none is one of its own: all who are not logged in are not one user.

    Such a group has one class, so `gauc` does not count it. `ndcg_at_k` would: give it the rows that name a list alone.

    Args:
        groups: ``[N]`` uint64 keys.
        known: ``[N]`` bool, whether the row names one.
    """
    return np.where(known, groups, mix(np.arange(len(groups), dtype=np.uint64) | np.uint64(1 << 63)))


def logloss(labels: Array, probabilities: Array, weights: Array | None = None) -> float:
    """Mean binary cross entropy in nats, probabilities clipped to [1e-7, 1 - 1e-7]; NaN without rows.

    Args:
        labels: ``[N]`` 0 or 1.
        probabilities: ``[N]`` float in [0, 1].
        weights: ``[N]``.
    """
    if not len(labels):
        return math.nan
    # float64 first: in float32, 1 - 1e-7 has almost no digits left.
    likelihood = np.clip(np.asarray(probabilities, dtype=np.float64), CLIP, 1 - CLIP)
    np.subtract(1, likelihood, out=likelihood, where=np.asarray(labels) <= 0)
    np.log(likelihood, out=likelihood)
    return -float(likelihood.mean()) if weights is None else -mean(likelihood, weights)


def normalized_entropy(labels: Array, probabilities: Array, weights: Array | None = None) -> float:
    """Log loss divided by the entropy of the base rate: 1 is no better than always saying the base rate, 0 is perfect.

    Args:
        labels: ``[N]`` 0 or 1.
        probabilities: ``[N]`` float in [0, 1].
        weights: ``[N]``.

    Returns:
        NaN when one class is missing.

    Source: He et al., Practical Lessons from Predicting Clicks on Ads at Facebook (2014).
    """
    positive = np.asarray(labels) > 0
    if all_same(positive, weights):
        return math.nan
    rate = mean(positive, weights)
    return logloss(labels, probabilities, weights) / -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))


def calibration(labels: Array, probabilities: Array, weights: Array | None = None) -> float:
    """Mean probability over positive rate: 1 is calibrated, above 1 promises too much; NaN without a positive.

    Args:
        labels: ``[N]`` 0 or 1.
        probabilities: ``[N]`` float in [0, 1].
        weights: ``[N]``.
    """
    rate = mean(np.asarray(labels) > 0, weights)
    return mean(np.asarray(probabilities), weights) / rate if rate > 0 else math.nan


def all_same(values: Array, weights: Array | None = None) -> bool:
    """Whether the values of all rows that count, those with a weight above 0, are the same; true where there are none.

    A weighted mean of equal values is not one of them to the last bit, so a variance does not tell.
    """
    counted = np.asarray(values) if weights is None else np.asarray(values)[weights > 0]
    return not len(counted) or bool(counted.min() == counted.max())


class _TieBlocks(NamedTuple):
    """Runs of rows with equal group and score, in rising order of both.

    With weights, ``positives``, ``negatives`` and ``rows_of_group`` are float64 sums of these.

    Attributes:
        sizes: ``[blocks]`` int64 rows of each block.
        positives: ``[blocks]`` int64 positives among them.
        negatives: ``[blocks]`` int64 the others.
        starts: ``[blocks]`` int64 rows of the same group before the block.
        first: ``[groups]`` int64 the first block of each group.
        blocks_of_group: ``[groups]`` int64.
        rows_of_group: ``[groups]`` int64.
    """

    sizes: Array
    positives: Array
    negatives: Array
    starts: Array
    first: Array
    blocks_of_group: Array
    rows_of_group: Array


def _tie_blocks(labels: Array, scores: Array, groups: Array, weights: Array | None = None) -> _TieBlocks:
    # Any order within a tie will do, so the first sort may be the fast unstable one; twice as fast as lexsort.
    by_score = np.argsort(scores)
    order = by_score[np.argsort(groups[by_score], kind="stable")]
    rows = len(order)
    column = groups[order]
    new_group = np.ones(rows, dtype=bool)
    np.not_equal(column[1:], column[:-1], out=new_group[1:])
    column = scores[order]
    new_block = new_group.copy()
    new_block[1:] |= column[1:] != column[:-1]
    block_at, group_at = np.flatnonzero(new_block), np.flatnonzero(new_group)
    first = np.flatnonzero(new_group[block_at])
    blocks_of_group = np.diff(first, append=len(block_at))
    sizes, positive = np.diff(block_at, append=rows), labels[order] > 0
    positives = np.add.reduceat(positive, block_at, dtype=np.int64)
    ties = _TieBlocks(
        sizes=sizes,
        positives=positives,
        negatives=sizes - positives,
        starts=block_at - np.repeat(group_at, blocks_of_group),
        first=first,
        blocks_of_group=blocks_of_group,
        rows_of_group=np.diff(group_at, append=rows),
    )
    if weights is None:
        return ties
    of_row = weights[order].astype(np.float64)
    return ties._replace(
        positives=np.add.reduceat(np.where(positive, of_row, 0), block_at),
        negatives=np.add.reduceat(np.where(positive, 0, of_row), block_at),
        rows_of_group=np.add.reduceat(of_row, group_at),
    )


def mean(values: Array, weights: Array | None = None) -> float:
    """Mean of ``[N]`` in float64; NaN without rows, or where all weigh nothing."""
    if weights is not None:
        total = weights.sum(dtype=np.float64)
        return float(np.dot(values.astype(np.float64), weights.astype(np.float64)) / total) if total else math.nan
    return float(values.mean(dtype=np.float64)) if len(values) else math.nan


def defined(value: float) -> float | None:
    """The value, None where it is not a finite number: JSON has no NaN."""
    return value if math.isfinite(value) else None
