"""Exact metrics within groups, such as users and result lists: GAUC, UAUC and NDCG, in the house style of `metrics`.

Where rows are spread over ranks, those of a group come to one of them, and the sums over groups to all.
"""

import math
from typing import NamedTuple

import numpy as np

from ...data.arrow.ids import mix
from ...data.config.sections.task import Array
from .metrics import mean
from .spread import ALONE, Spread, total

RANKING_K = 10


def gauc(labels: Array, scores: Array, groups: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """AUC within each group, averaged with the groups' rows as weights, over the groups that have both classes.

    Args:
        labels: ``[N]`` 0 or 1.
        scores: ``[N]`` float.
        groups: ``[N]`` int64 or uint64, usually the user.
        weights: ``[N]``; within a group as of `auc`, and a group counts by the sum of its rows'.
        spread: how rows are spread over ranks.

    Returns:
        A value in [0, 1]; NaN when no group has both classes.

    Source: Zhou et al., Deep Interest Network (2018).
    """
    return gauc_and_uauc(labels, scores, groups, weights, spread)[0]


def uauc(labels: Array, scores: Array, groups: Array, weights: Array | None = None, spread: Spread = ALONE) -> float:
    """AUC within each group, averaged over the groups that have both classes, each counting the same.

    Arguments as of `gauc`; weights count within a group alone. NaN when no group has both classes.

    Source: Zhou et al., Deep Interest Network (2018), whose GAUC it is without the weights.
    """
    return gauc_and_uauc(labels, scores, groups, weights, spread)[1]


def gauc_and_uauc(
    labels: Array, scores: Array, groups: Array, weights: Array | None = None, spread: Spread = ALONE
) -> tuple[float, float]:
    """`gauc` and `uauc`, whose arguments it takes: rows are put in order once."""
    (groups, labels, scores, weights), _ = spread.by_group(groups, labels, scores, weights)
    diverged = bool(np.isnan(scores).any())
    return means_of_aucs(*group_aucs(labels, scores, groups, weights), diverged, spread)


def means_of_aucs(found: Array, counts: Array, diverged: bool = False, spread: Spread = ALONE) -> tuple[float, float]:
    """`gauc` and `uauc`, of what `group_aucs` gives on each rank; NaN where on one of them a score is (``diverged``)."""
    both = ~np.isnan(found)
    found, counts = found[both], counts[both]
    sums = np.array([(found * counts).sum(), counts.sum(dtype=np.float64), found.sum(), len(found), diverged])
    weighed, weight, plain, groups, diverged_somewhere = total(sums, spread)
    if diverged_somewhere or not groups:
        return math.nan, math.nan
    return float(weighed / weight), float(plain / groups)


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


def ndcg_at_k(
    labels: Array,
    scores: Array,
    groups: Array,
    k: int = RANKING_K,
    weights: Array | None = None,
    spread: Spread = ALONE,
) -> float:
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
        spread: how rows are spread over ranks.

    Returns:
        A value in [0, 1]; NaN when no group has a positive.

    Source: Järvelin and Kekäläinen (2002); ties after McSherry and Najork (2008).
    """
    (groups, labels, scores, weights), _ = spread.by_group(groups, labels, scores, weights)
    found, counts = group_ndcgs(labels, scores, groups, k, weights)
    some = ~np.isnan(found)
    diverged = total(np.array([np.isnan(scores).sum()]), spread).any()
    value = mean(found[some], None if weights is None else counts[some], spread)
    return math.nan if diverged else value


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


def apart(groups: Array, known: Array, at: Array | None = None) -> Array:
    """Groups in which each row that names none is one of its own: all who are not logged in are not one user.

    Such a group has one class, so `gauc` does not count it. `ndcg_at_k` would: give it the rows that name a list alone.

    Args:
        groups: ``[N]`` uint64 keys.
        known: ``[N]`` bool, whether the row names one.
        at: ``[N]`` the place of each row among all rows, whatever ranks hold them; None: these are all, in order.
    """
    at = np.arange(len(groups)) if at is None else at
    return np.where(known, groups, mix(at.astype(np.uint64) | np.uint64(1 << 63)))


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
