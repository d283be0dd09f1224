"""What importers make of a log in the order of time: splits, what was known before each row, past items, and negatives."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

HISTORY_LENGTH = 30
NONE = -1  # where no negative was found


def temporal_splits(times: np.ndarray, train: float = 0.8, validation: float = 0.1) -> np.ndarray:
    """Split of each row by time: 0 train, 1 validation, 2 test. Equal times stay together, in the later split.

    Args:
        times: ``[N]``, any order.
        train: share of the rows before the first boundary.
        validation: share of the rows between the two.
    """
    ordered = np.sort(times)
    bounds = ordered[[int(train * len(times)), int((train + validation) * len(times))]]
    return np.searchsorted(bounds, times, side="right")


def earlier(
    groups: np.ndarray, times: np.ndarray, query_groups: np.ndarray, query_times: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every query, where the events of its group strictly before its time are.

    Args:
        groups: ``[N]`` int64 >= 0, group of each event (a user, a user-item pair, ...).
        times: ``[N]`` int64.
        query_groups: ``[Q]`` int64 >= 0; a group without events gives an empty range.
        query_times: ``[Q]`` int64.

    Returns:
        ``(order, begin, end)``: ``order[begin[q]:end[q]]`` are the positions of those events, oldest first, events of
        one time in their given order. ``end - begin`` counts them.
    """
    moments = np.unique(times)
    span = len(moments) + 1
    keys = groups * span + np.searchsorted(moments, times)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    begin = np.searchsorted(keys, query_groups * span)
    end = np.searchsorted(keys, query_groups * span + np.searchsorted(moments, query_times))
    return order, begin, end


def means(values: np.ndarray, order: np.ndarray, begin: np.ndarray, end: np.ndarray) -> pa.Array:
    """``[Q]`` float32: mean of ``values`` ``[N]`` over each range that `earlier` gave; null where that is empty."""
    total = np.concatenate([[0], np.cumsum(values[order])])
    count = end - begin
    return pa.array((total[end] - total[begin]) / np.maximum(count, 1), pa.float32(), mask=count == 0)


def slices(values: pa.Array | np.ndarray, begin: np.ndarray, end: np.ndarray) -> pa.ListArray:
    """``[Q]`` lists: ``values[begin[q]:end[q]]``."""
    lengths = end - begin
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.arange(offsets[-1]) + np.repeat(begin - offsets[:-1], lengths)
    values = pa.array(values) if isinstance(values, np.ndarray) else values
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values.take(pa.array(positions)))


def histories(
    users: np.ndarray, times: np.ndarray, items: pa.Array, query_users: np.ndarray, query_times: np.ndarray
) -> pa.ListArray:
    """``[Q]`` lists: the user's last 30 items strictly before the query's time, oldest first."""
    order, begin, end = earlier(users, times, query_users, query_times)
    return slices(items.take(pa.array(order)), np.maximum(begin, end - HISTORY_LENGTH), end)


class Pools:
    """Sets of distinct items, by key, to draw negatives from.

    Args:
        keys: ``[N]`` int64 >= 0, the set.
        items: ``[N]`` int64 >= 0, a member of it; given twice, it counts once.
    """

    def __init__(self, keys: np.ndarray, items: np.ndarray):
        span = int(items.max(initial=0)) + 1
        pairs = np.unique(keys * span + items)
        self.keys, self.items = pairs // span, pairs % span

    def draw(
        self,
        rng: np.random.Generator,
        keys: np.ndarray,
        taken: np.ndarray,
        refused: Callable[[np.ndarray, np.ndarray], np.ndarray],
        attempts: int = 64,
    ) -> np.ndarray:
        """One member of each row's set, uniform among those neither taken nor refused.

        Args:
            rng: source of randomness.
            keys: ``[Q]`` int64, the set to draw from; an unknown key is an empty set.
            taken: ``[Q, K]`` int64, the row's earlier draws.
            refused: takes row numbers and as many items, returns which may not be used there.
            attempts: draws per row before it is given up.

        Returns:
            ``[Q]`` int64; `NONE` where no draw fitted, in practice where no member is left.
        """
        begin = np.searchsorted(self.keys, keys)
        size = np.searchsorted(self.keys, keys, side="right") - begin
        drawn = np.full(len(keys), NONE)
        pending = np.flatnonzero(size > 0)
        for _ in range(attempts):
            candidates = self.items[begin[pending] + rng.integers(0, size[pending])]
            bad = refused(pending, candidates) | (taken[pending] == candidates[:, None]).any(axis=1)
            drawn[pending[~bad]] = candidates[~bad]
            pending = pending[bad]
        return drawn


def pair_refuser(left: np.ndarray, items: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function telling which (left, item) pairs are among those given; all int64 >= 0, elementwise."""
    span = int(items.max(initial=0)) + 1
    known = np.unique(left * span + items)

    def is_known(query_left: np.ndarray, query_items: np.ndarray) -> np.ndarray:
        wanted = query_left * span + query_items
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return (known[at] == wanted) & (query_items < span)

    return is_known


def as_lists(
    rng: np.random.Generator, positives: np.ndarray, negatives: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One row per positive and per negative found, lists in order, shuffled inside.

    A list must not start with its positive, or a model that scores everything alike would rank it first.

    Args:
        positives: ``[N]`` int64 items.
        negatives: ``[N, K]`` int64 items, `NONE` where there is none.

    Returns:
        ``(list, item, label)``, each ``[M]`` int64: position of the row's list, its item, and 1 or 0.
    """
    items = np.column_stack([positives, negatives])
    labels = np.zeros_like(items)
    labels[:, 0] = 1
    shuffled = np.argsort(rng.random(items.shape), axis=1)
    items, labels = np.take_along_axis(items, shuffled, 1), np.take_along_axis(labels, shuffled, 1)
    lists = np.broadcast_to(np.arange(len(items))[:, None], items.shape)
    kept = items != NONE
    return lists[kept], items[kept], labels[kept]
