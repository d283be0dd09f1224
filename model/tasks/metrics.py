"""Exact metrics of predictions: no bins, no samples, ties counted as what they are.

Everything is NumPy over whole columns, O(n log n). Labels are 0 or 1 (any numeric or bool dtype); scores are floats.
Weights, where there are any, are ``[N]`` floats from 0 up: a row of weight 2 counts as two such rows, one of weight 0 as none.
A score that is NaN makes a ranking metric NaN: a diverged model must not look like a ranking.
Rows may be ``spread`` over ranks: each gives its own, which may be none, and all get the number of all rows.
"""

import math

import numpy as np

from ...data.config.sections.task import Array
from .spread import ALONE, Spread, ranges, summed, total

CLIP = 1e-7


def auc(labels: Array, scores: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, a tie counting one half.

    Exact for any number of rows and any positive rate; a binned AUC is far off at click rates below one percent.

    Args:
        labels: ``[N]`` 0 or 1.
        scores: ``[N]`` float; higher means more likely positive.
        weights: ``[N]``; a pair counts by the product of its two.
        spread: how rows are spread over ranks.

    Returns:
        A value in [0, 1]; NaN when one class is missing.

    Source: Mann and Whitney (1947); Hanley and McNeil (1982).
    """
    positive, scores = np.asarray(labels) > 0, np.asarray(scores)
    by_score = _counted(positive, scores) if weights is None else _weighed(positive, scores, weights)
    (values, positives, negatives), _ = ranges(*by_score, spread=spread)
    over, level = (positives * (np.cumsum(negatives) - negatives)).sum(), (positives * negatives).sum()
    diverged = bool(len(values)) and bool(np.isnan(values[-1]))  # NaN is last
    everyone = spread.each(np.array([over, level, positives.sum(), negatives.sum(), diverged], positives.dtype))
    if everyone[:, 4].any():
        return math.nan
    twice_right = below = above = 0  # in numbers of Python, which have no largest one
    for over, level, more, less, _ in everyone.tolist():
        twice_right += (
            2 * over + level + 2 * more * below
        )  # a rank's positives are above all negatives of the ranks before
        below, above = below + less, above + more
    return twice_right / (2 * above * below) if above * below else math.nan


def _counted(positive: Array, scores: Array) -> tuple[Array, Array, Array]:
    """Distinct scores in rising order, and int64 how many positives and negatives have each; sorted, which is faster than indexed."""
    parts = [np.unique(scores[where], return_counts=True) for where in (positive, ~positive)]
    values = np.unique(np.concatenate([of for of, _ in parts]))
    counts = np.zeros((2, len(values)), np.int64)
    for row, (of, count) in zip(counts, parts, strict=True):
        row[np.searchsorted(values, of)] = count
    return values, counts[0], counts[1]


def _weighed(positive: Array, scores: Array, weights: Array) -> tuple[Array, Array, Array]:
    """As `_counted`, the sums of weights in float64."""
    values, block = np.unique(scores, return_inverse=True)
    of_positives, of_negatives = (
        summed(block, np.where(where, weights, 0), len(values)) for where in (positive, ~positive)
    )
    return values, of_positives, of_negatives


def logloss(labels: Array, probabilities: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """Mean binary cross entropy in nats, probabilities clipped to [1e-7, 1 - 1e-7]; NaN without rows.

    Args:
        labels: ``[N]`` 0 or 1.
        probabilities: ``[N]`` float in [0, 1].
        weights: ``[N]``.
        spread: how rows are spread over ranks.
    """
    # float64 first: in float32, 1 - 1e-7 has almost no digits left.
    likelihood = np.clip(np.asarray(probabilities, dtype=np.float64), CLIP, 1 - CLIP)
    np.subtract(1, likelihood, out=likelihood, where=np.asarray(labels) <= 0)
    np.log(likelihood, out=likelihood)
    return -mean(likelihood, weights, spread)


def normalized_entropy(
    labels: Array, probabilities: Array, weights: Array | None = None, spread: Spread = ALONE
) -> float:
    """Log loss divided by the entropy of the base rate: 1 is no better than always saying the base rate, 0 is perfect.

    Args:
        labels: ``[N]`` 0 or 1.
        probabilities: ``[N]`` float in [0, 1].
        weights: ``[N]``.
        spread: how rows are spread over ranks.

    Returns:
        NaN when one class is missing.

    Source: He et al., Practical Lessons from Predicting Clicks on Ads at Facebook (2014).
    """
    positive = np.asarray(labels) > 0
    if all_same(positive, weights, spread):
        return math.nan
    rate = mean(positive, weights, spread)
    of_rate = -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))
    return logloss(labels, probabilities, weights, spread) / of_rate


def calibration(labels: Array, probabilities: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """Mean probability over positive rate: 1 is calibrated, above 1 promises too much; NaN without a positive.

    Args:
        labels: ``[N]`` 0 or 1.
        probabilities: ``[N]`` float in [0, 1].
        weights: ``[N]``.
        spread: how rows are spread over ranks.
    """
    rate = mean(np.asarray(labels) > 0, weights, spread)
    promised = mean(np.asarray(probabilities), weights, spread)
    return promised / rate if rate > 0 else math.nan


def all_same(values: Array, weights: Array | None = None, spread: Spread = ALONE) -> bool:
    """Whether the values of all rows that count, those with a weight above 0, are the same; true where there are none.

    A weighted mean of equal values is not one of them to the last bit, so a variance does not tell.
    """
    counted = np.asarray(values) if weights is None else np.asarray(values)[weights > 0]
    ends = [counted.min(), counted.max()] if len(counted) else [math.inf, -math.inf]
    least, most = spread.each(np.array(ends, np.float64)).T
    return bool(least.min() >= most.max())


def mean(values: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """Mean of ``[N]`` in float64; NaN without rows, or where all weigh nothing."""
    if weights is None:
        sums = values.sum(dtype=np.float64), len(values)
    else:
        sums = np.dot(values.astype(np.float64), weights.astype(np.float64)), weights.sum(dtype=np.float64)
    of, count = total(np.array(sums, np.float64), spread)
    return float(of / count) if count else math.nan


def defined(value: float) -> float | None:
    """The value, None where it is not a finite number: JSON has no NaN."""
    return value if math.isfinite(value) else None
