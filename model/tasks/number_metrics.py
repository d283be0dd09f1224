"""Exact metrics of predicted numbers, in the house style of `metrics`: no bins by value, no samples, ties counted as what they are.

Labels ``[N]`` and scores ``[N]`` are of any numeric dtype and computed in float64. Weights, where there are any, are ``[N]`` floats
from 0 up: a row of weight 2 counts as two such rows, one of weight 0 as none. All are O(n log n) and NaN where they are not
defined: without rows, where a score is NaN, and in the cases that each of them names. Rows may be ``spread`` over ranks, as in `metrics`.
"""

import math

import numpy as np

from ...data.config.sections.task import Array
from .group_metrics import RANKING_K
from .metrics import all_same, mean
from .spread import ALONE, Spread, ranges, summed, total

DECILES = 10
_LEAST = 1e-30  # of a rate: the logarithm of zero would say that no other error matters


def rmse(labels: Array, scores: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """Root of the mean squared error, in the label's unit."""
    return math.sqrt(mean((_float(scores) - labels) ** 2, weights, spread))


def mae(labels: Array, scores: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """Mean absolute error, in the label's unit."""
    return mean(np.abs(_float(scores) - labels), weights, spread)


def r_squared(labels: Array, scores: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """1 - squared error / variance of the labels: 1 is perfect, 0 what their mean reaches; NaN where they are all the same."""
    labels = _float(labels)
    if all_same(labels, weights, spread):
        return math.nan
    variance = mean((labels - mean(labels, weights, spread)) ** 2, weights, spread)
    return 1 - mean((_float(scores) - labels) ** 2, weights, spread) / variance


def spearman(labels: Array, scores: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """Spearman's rank correlation, from -1 to 1; ties share their mean rank. NaN where all labels or all scores are the same.

    Source: Spearman (1904).
    """
    if not _known(labels, scores, spread) or all_same(labels, weights, spread) or all_same(scores, weights, spread):
        return math.nan
    x, y = _ranks(labels, weights, spread), _ranks(scores, weights, spread)
    x, y = x - mean(x, weights, spread), y - mean(y, weights, spread)
    deviations = math.sqrt(mean(x * x, weights, spread) * mean(y * y, weights, spread))
    return mean(x * y, weights, spread) / deviations


def calibration_ratio(labels: Array, scores: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """Mean score over mean label: 1 is right, above 1 promises too much; NaN unless the mean label is above 0."""
    wanted, promised = mean(_float(labels), weights, spread), mean(_float(scores), weights, spread)
    return promised / wanted if wanted > 0 else math.nan


def deciles(labels: Array, scores: Array, weights: Array | None = None, spread: Spread = ALONE) -> Array:
    """Mean score and mean label of each tenth of the rows, from the lowest scores to the highest.

    Rows with equal scores count as one block whose labels are all its mean, so that it does not matter in which order they
    come; a row or block on the border between two tenths counts for each as far as it is in it.

    Returns:
        ``[10, 2]``; no rows where they are not defined.
    """
    if not _known(labels, scores, spread):
        return np.zeros((0, 2))
    values, sizes, sums = _blocks(scores, labels, weights, spread)
    ends = np.concatenate([[0.0], np.cumsum(sizes)])
    before, rows = _before_and_all(ends[-1], spread)
    if not rows > 0:
        return np.zeros((0, 2))
    borders = np.linspace(0, rows, DECILES + 1)
    # Below its own blocks a rank adds nothing to what lies below a border, above them all it has.
    held = [np.interp(borders, before + ends, np.concatenate([[0.0], np.cumsum(of)])) for of in (values * sizes, sums)]
    return np.diff(total(np.array(held), spread), axis=1).T * DECILES / rows


def decile_error(labels: Array, scores: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """Mean distance of mean score and mean label over the `deciles`, as a share of the mean label; NaN unless that is above 0."""
    found, wanted = deciles(labels, scores, weights, spread), mean(_float(labels), weights, spread)
    return float(np.abs(found[:, 0] - found[:, 1]).mean()) / wanted if len(found) and wanted > 0 else math.nan


def graded_ndcg_at_k(
    labels: Array,
    scores: Array,
    groups: Array,
    k: int = RANKING_K,
    weights: Array | None = None,
    spread: Spread = ALONE,
) -> float:
    """Normalised discounted cumulative gain of the first ``k`` places, the gain being the label, averaged over the groups that have
    one above 0.

    Rows with equal scores share the mean discount of the places they fill together, as in `group_metrics.ndcg_at_k`. A group counts
    by the mean weight of its rows; gains are what they are. NaN where a label is negative.

    Args:
        labels: ``[N]``.
        scores: ``[N]``.
        groups: ``[N]`` int64 or uint64, usually the result list.
        k: places that count, at least 1.
        weights: ``[N]``.
        spread: how rows are spread over ranks.

    Source: Järvelin and Kekäläinen (2002); ties after McSherry and Najork (2008).
    """
    if not _known(labels, scores, spread, least=0):
        return math.nan
    (groups, labels, scores, weights), _ = spread.by_group(groups, labels, scores, weights)
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
    first = np.ones(len(order), bool)
    first[1:] = (ordered[1:] != ordered[:-1]) | (of[1:] != of[:-1])
    at = np.flatnonzero(first)
    sizes, place = np.diff(at, append=len(order)), at - starts[of[at]]
    worth = (discount[np.minimum(place + sizes, k)] - discount[np.minimum(place, k)]) / sizes
    found = np.bincount(of[at], np.add.reduceat(gains[order], at) * worth)

    some = best > 0
    of_groups = None if weights is None else (np.bincount(group, weights) / rows)[some]
    return mean(found[some] / best[some], of_groups, spread)


def pinball(
    labels: Array, scores: Array, quantile: float, weights: Array | None = None, spread: Spread = ALONE
) -> float:
    """Mean pinball loss of scores that stand for a quantile of the label, in its unit; the quantile itself has the least.

    Source: Koenker and Bassett, Regression Quantiles (1978).
    """
    over = _float(labels) - scores
    return mean(np.maximum(quantile * over, (quantile - 1) * over), weights, spread)


def quantile_skill(
    labels: Array, scores: Array, quantile: float, weights: Array | None = None, spread: Spread = ALONE
) -> float:
    """1 - pinball loss / that of the labels' own quantile for all rows: 1 is perfect, 0 no better than a constant.

    NaN where the labels are all the same.

    Source: Koenker and Machado, Goodness of Fit and Related Inference Processes for Quantile Regression (1999).
    """
    if not _known(labels, scores, spread):
        return math.nan
    values, sizes, _ = _blocks(labels, labels, weights, spread)
    before, rows = _before_and_all(sizes.sum(), spread)
    if not rows > 0:
        return math.nan
    at = np.searchsorted(before + np.cumsum(sizes), quantile * rows)
    here = values[at] if at < len(values) else math.inf  # a rank after the first that reaches it has a larger one
    constant = spread.each(np.array([here])).min()
    best = pinball(labels, np.full(len(labels), constant), quantile, weights, spread)
    found = pinball(labels, scores, quantile, weights, spread)
    return 1 - found / best if best > 0 else math.nan


def coverage(labels: Array, scores: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """Share of the labels that are not above their score; of scores that stand for a quantile it should be that."""
    if not _known(labels, scores, spread):
        return math.nan
    return mean((np.asarray(labels) <= np.asarray(scores)).astype(np.float64), weights, spread)


def normalised_gini(labels: Array, scores: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """Gini coefficient of the labels in order of the scores, over that in their own order: 1 is the best order, 0 is chance.

    The coefficient is twice the area between the share of all labels' sum that the rows with the highest scores hold and the
    diagonal; rows with equal scores hold theirs evenly. NaN where a label is negative, or all are the same.

    Source: Wang, Liu and Miao, A Deep Probabilistic Model for Customer Lifetime Value Prediction (2019), who add up steps where
    this takes areas: a difference of one part in the number of rows.
    """
    if not _known(labels, scores, spread, least=0):
        return math.nan
    best, found = _gini(labels, labels, weights, spread), _gini(labels, scores, weights, spread)
    return found / best if best > 0 else math.nan


def poisson_deviance(labels: Array, scores: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """Mean Poisson deviance of rates, 0 being perfect; NaN where a label or a score is negative.

    Source: McCullagh and Nelder, Generalized Linear Models (1989).
    """
    labels, rates = _float(labels), _float(scores)
    if not _known(labels, scores, spread, least=0) or not _known(rates, scores, spread, least=0):
        return math.nan
    rates = np.maximum(rates, _LEAST)
    some = labels > 0
    each = rates - labels
    each[some] += labels[some] * np.log(labels[some] / rates[some])
    return 2 * mean(each, weights, spread)


def accuracy(
    labels: Array, scores: Array, levels: Array, weights: Array | None = None, spread: Spread = ALONE
) -> float:
    """Share of rows whose label is the level next to the score; halfway between two it is the lower one."""
    if not _known(labels, scores, spread):
        return math.nan
    borders = (levels[1:] + levels[:-1]) / 2
    right = np.searchsorted(borders, _float(labels)) == np.searchsorted(borders, _float(scores))
    return mean(right.astype(np.float64), weights, spread)


def _float(values: Array) -> Array:
    return np.asarray(values, dtype=np.float64)


def _known(labels: Array, scores: Array, spread: Spread, least: float = -math.inf) -> bool:
    """Whether there are rows, all of their scores are numbers, and no label is below ``least``."""
    found = [len(labels), np.isnan(scores).sum(), (np.asarray(labels) < least).sum()]
    rows, unknown, below = total(np.array(found, np.int64), spread)
    return bool(rows > 0 and not unknown and not below)


def _before_and_all(sum_here: float, spread: Spread) -> tuple[float, float]:
    """A sum over the ranks before this one, and over all."""
    everyone = spread.each(np.array([sum_here], np.float64))[:, 0]
    return float(everyone[: spread.rank].sum()), float(everyone.sum())


def _blocks(by: Array, of: Array, weights: Array | None, spread: Spread) -> tuple[Array, Array, Array]:
    """Distinct values of ``by`` in rising order, the weight of the rows that have each, and the weighted sum of ``of`` over these; as
    of `ranges`."""
    values, block = np.unique(_float(by), return_inverse=True)
    each = np.ones(len(block)) if weights is None else _float(weights)
    sums = summed(block, each, len(values)), summed(block, each * of, len(values))
    (values, sizes, sums_of), _ = ranges(values, *sums, spread=spread)
    return values, sizes, sums_of


def _ranks(values: Array, weights: Array | None, spread: Spread) -> Array:
    """Mean rank of each value among those of all ranks, but for a constant."""
    own, block = np.unique(_float(values), return_inverse=True)
    sizes = summed(block, np.ones(len(block)) if weights is None else _float(weights), len(own))
    (_, sizes), back = ranges(own, sizes, spread=spread)
    before, _ = _before_and_all(sizes.sum(), spread)
    return back(before + np.cumsum(sizes) - sizes / 2)[block]


def _gini(labels: Array, by: Array, weights: Array | None, spread: Spread) -> float:
    _, sizes, sums = _blocks(by, labels, weights, spread)
    before, _ = _before_and_all(sums.sum(), spread)
    held = before + np.cumsum(sums) - sums / 2  # up to the middle of each block, the lowest first
    area, all_sums, rows = total(np.array([np.dot(held, sizes), sums.sum(), sizes.sum()]), spread)
    return 1 - 2 * float(area) / float(all_sums * rows) if rows > 0 and all_sums > 0 else math.nan
