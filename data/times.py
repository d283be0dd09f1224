"""When past items were: columns of times, and how long before the event each past item was."""

import numpy as np
import pyarrow as pa

from .beside import of_items, of_kept_items
from .values import Ragged, one_array, ragged_lists


def seconds(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """``[N]`` float64 seconds of timestamps, dates or numbers (of seconds); NaN where null."""
    array = one_array(column)
    kind, unit = array.type, 1.0
    if pa.types.is_timestamp(kind):
        unit = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[kind.unit]
        array = array.cast(pa.int64())
    elif pa.types.is_date(kind):
        array, unit = array.cast(pa.timestamp("s")).cast(pa.int64()), 1.0
    return array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) * unit


def ragged_ages(
    items: pa.ChunkedArray | pa.Array,
    times: pa.ChunkedArray | pa.Array,
    events: pa.ChunkedArray | pa.Array | None,
    max_length: int,
    where: str,
) -> Ragged:
    """How long before its event each past item was, int64 seconds, as many as `values.ragged_keys` gives for ``items``.

    Args:
        items: list column of ids, oldest first.
        times: list column of their times; what is null there, or in a null list, was at the time of the event.
        events: column of the events' own times; where null or None, the newest of the row's times is taken.
        max_length: the last ones of a row are kept.
        where: file, row group and column, for errors.

    Raises:
        UserError: a row with more or fewer times than items.
    """
    told = of_items(items, times, where, "time", "times")
    _, offsets = ragged_lists(items)
    at = seconds(told) if len(told) else np.zeros(0)
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    newest = np.full(len(offsets) - 1, -np.inf)
    np.maximum.at(newest, row, np.nan_to_num(at, nan=-np.inf))
    if events is not None:
        own = seconds(events)
        newest = np.where(np.isnan(own), newest, own)
    ages = np.nan_to_num(newest[row] - at, nan=0.0, posinf=0.0, neginf=0.0).clip(0).astype(np.int64)
    return of_kept_items(ages, items, max_length)
