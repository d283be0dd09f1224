"""Exact metrics of predicted numbers, in the house style of `metrics`: no bins by value, no samples, ties counted as what they are.

Labels ``[N]`` and scores ``[N]`` are of any numeric dtype and computed in float64. Weights, where there are any, are ``[N]`` floats
from 0 up: a row of weight 2 counts as two such rows, one of weight 0 as none. All are O(n log n) and NaN where they are not
defined: without rows, where a score is NaN, and in the cases that each of them names.
"""

import math

import numpy as np

from ...data.config.sections.task import Array
from .metrics import RANKING_K, all_same, mean

DECILES = 10
_LEAST = 1e-30  # of a rate: the logarithm of zero would say that no other error matters


def rmse(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """Root of the mean squared error, in the label's unit."""
    return math.sqrt(mean((_float(scores) - labels) ** 2, weights))


def mae(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """Mean absolute error, in the label's unit."""
    return mean(np.abs(_float(scores) - labels), weights)


def r_squared(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """1 - squared error / variance of the labels: 1 is perfect, 0 what their mean reaches; NaN where they are all the same."""
    labels = _float(labels)
    if all_same(labels, weights):
        return math.nan
    variance = mean((labels - mean(labels, weights)) ** 2, weights)
    return 1 - mean((_float(scores) - labels) ** 2, weights) / variance


def spearman(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """Spearman's rank correlation, from -1 to 1; ties share their mean rank. NaN where all labels or all scores are the same.

    Source: Spearman (1904).
    """
    if not _known(labels, scores) or all_same(labels, weights) or all_same(scores, weights):
        return math.nan
    x, y = _ranks(labels, weights), _ranks(scores, weights)
    x, y = x - mean(x, weights), y - mean(y, weights)
    spread = math.sqrt(mean(x * x, weights) * mean(y * y, weights))
    return mean(x * y, weights) / spread


def calibration_ratio(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """Mean score over mean label: 1 is right, above 1 promises too much; NaN unless the mean label is above 0."""
    wanted = mean(_float(labels), weights)
    return mean(_float(scores), weights) / wanted if wanted > 0 else math.nan


def deciles(labels: Array, scores: Array, weights: Array | None = None) -> Array:
    """Mean score and mean label of each tenth of the rows, from the lowest scores to the highest.

    Rows with equal scores count as one block whose labels are all its mean, so that it does not matter in which order they
    come; a row or block on the border between two tenths counts for each as far as it is in it.

    Returns:
        ``[10, 2]``; no rows where they are not defined.
    """
    if not _known(labels, scores):
        return np.zeros((0, 2))
    values, sizes, sums = _blocks(scores, labels, weights)
    if not sizes.sum() > 0:
        return np.zeros((0, 2))
    ends = np.concatenate([[0.0], np.cumsum(sizes)])
    borders = np.linspace(0, ends[-1], DECILES + 1)
    parts = [np.diff(np.interp(borders, ends, np.concatenate([[0.0], np.cumsum(of)]))) for of in (values * sizes, sums)]
    return np.stack(parts, 1) * DECILES / ends[-1]


def decile_error(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """Mean distance of mean score and mean label over the `deciles`, as a share of the mean label; NaN unless that is above 0."""
    found, wanted = deciles(labels, scores, weights), mean(_float(labels), weights)
    return float(np.abs(found[:, 0] - found[:, 1]).mean()) / wanted if len(found) and wanted > 0 else math.nan


def graded_ndcg_at_k(
    labels: Array, scores: Array, groups: Array, k: int = RANKING_K, weights: Array | None = None
) -> float:
    """Normalised discounted cumulative gain of the first ``k`` places, the gain being the label, averaged over the groups that have
    one above 0.

    Rows with equal scores share the mean discount of the places they fill together, as in `metrics.ndcg_at_k`. A group counts
    by the mean weight of its rows; gains are what they are. NaN where a label is negative.

    Args:
        labels: ``[N]``.
        scores: ``[N]``.
        groups: ``[N]`` int64 or uint64, usually the result list.
        k: places that count, at least 1.
        weights: ``[N]``.

    Source: Järvelin and Kekäläinen (2002); ties after McSherry and Najork (2008).
    """
    if not _known(labels, scores) or np.min(labels) < 0:
        return math.nan
    gains, scores = _float(labels), np.asarray(scores)
    _, group, rows = np.unique(groups, return_inverse=True, return_counts=True)
    starts = np.cumsum(rows) - rows
    discount = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])

    order = np.lexsort((-gains, group))
    place = np.arange(len(order)) - starts[group[order]]
    worth = discount[np.minimum(place + 1, k)] - discount[np.minimum(place, k)]
    best = np.bincount(group[order], gains[order] * worth)

    order = np.lexsort((-scores, group))
    ordered, of = scores[order], group[order]
    first = np.concatenate([[True], (ordered[1:] != ordered[:-1]) | (of[1:] != of[:-1])])
    at = np.flatnonzero(first)
    sizes, place = np.diff(at, append=len(order)), at - starts[of[at]]
    worth = (discount[np.minimum(place + sizes, k)] - discount[np.minimum(place, k)]) / sizes
    found = np.bincount(of[at], np.add.reduceat(gains[order], at) * worth)

    some = best > 0
    of_groups = None if weights is None else (np.bincount(group, weights) / rows)[some]
    return mean(found[some] / best[some], of_groups)


def pinball(labels: Array, scores: Array, quantile: float, weights: Array | None = None) -> float:
    """Mean pinball loss of scores that stand for a quantile of the label, in its unit; the quantile itself has the least.

    Source: Koenker and Bassett, Regression Quantiles (1978).
    """
    over = _float(labels) - scores
    return mean(np.maximum(quantile * over, (quantile - 1) * over), weights)


def quantile_skill(labels: Array, scores: Array, quantile: float, weights: Array | None = None) -> float:
    """1 - pinball loss / that of the labels' own quantile for all rows: 1 is perfect, 0 no better than a constant.

    NaN where the labels are all the same.

    Source: Koenker and Machado, Goodness of Fit and Related Inference Processes for Quantile Regression (1999).
    """
    if not _known(labels, scores):
        return math.nan
    values, sizes, _ = _blocks(labels, labels, weights)
    if not sizes.sum() > 0:
        return math.nan
    constant = values[np.searchsorted(np.cumsum(sizes), quantile * sizes.sum())]
    best = pinball(labels, np.full(len(labels), constant), quantile, weights)
    return 1 - pinball(labels, scores, quantile, weights) / best if best > 0 else math.nan


def coverage(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """Share of the labels that are not above their score; of scores that stand for a quantile it should be that."""
    if not _known(labels, scores):
        return math.nan
    return mean((np.asarray(labels) <= np.asarray(scores)).astype(np.float64), weights)


def normalised_gini(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """Gini coefficient of the labels in order of the scores, over that in their own order: 1 is the best order, 0 is chance.

    The coefficient is twice the area between the share of all labels' sum that the rows with the highest scores hold and the
    diagonal; rows with equal scores hold theirs evenly. NaN where a label is negative, or all are the same.

    Source: Wang, Liu and Miao, A Deep Probabilistic Model for Customer Lifetime Value Prediction (2019), who add up steps where
    this takes areas: a difference of one part in the number of rows.
    """
    if not _known(labels, scores) or np.min(labels) < 0:
        return math.nan
    best = _gini(labels, labels, weights)
    return _gini(labels, scores, weights) / best if best > 0 else math.nan


def poisson_deviance(labels: Array, scores: Array, weights: Array | None = None) -> float:
    """Mean Poisson deviance of rates, 0 being perfect; NaN where a label or a score is negative.

    Source: McCullagh and Nelder, Generalized Linear Models (1989).
    """
    labels, rates = _float(labels), _float(scores)
    if not _known(labels, scores) or labels.min() < 0 or rates.min() < 0:
        return math.nan
    rates = np.maximum(rates, _LEAST)
    some = labels > 0
    each = rates - labels
    each[some] += labels[some] * np.log(labels[some] / rates[some])
    return 2 * mean(each, weights)


def accuracy(labels: Array, scores: Array, levels: Array, weights: Array | None = None) -> float:
    """Share of rows whose label is the level next to the score; halfway between two it is the lower one."""
    if not _known(labels, scores):
        return math.nan
    borders = (levels[1:] + levels[:-1]) / 2
    right = np.searchsorted(borders, _float(labels)) == np.searchsorted(borders, _float(scores))
    return mean(right.astype(np.float64), weights)


def _float(values: Array) -> Array:
    return np.asarray(values, dtype=np.float64)


def _known(labels: Array, scores: Array) -> bool:
    return len(labels) > 0 and not np.isnan(scores).any()


def _blocks(by: Array, of: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    """Distinct values of ``by`` in rising order, the weight of the rows that have each, and the weighted sum of ``of`` over these."""
    values, block = np.unique(_float(by), return_inverse=True)
    each = np.ones(len(block)) if weights is None else _float(weights)
    return values, np.bincount(block, each), np.bincount(block, each * of)


def _ranks(values: Array, weights: Array | None) -> Array:
    """Mean rank of each value, but for a constant."""
    _, block = np.unique(_float(values), return_inverse=True)
    sizes = np.bincount(block, None if weights is None else _float(weights))
    return (np.cumsum(sizes) - sizes / 2)[block]


def _gini(labels: Array, by: Array, weights: Array | None) -> float:
    _, sizes, sums = _blocks(by, labels, weights)
    if not (sizes.sum() > 0 and sums.sum() > 0):
        return math.nan
    held = np.cumsum(sums) - sums / 2  # up to the middle of each block, the lowest first
    return 1 - 2 * float(np.dot(held, sizes)) / float(sums.sum() * sizes.sum())
