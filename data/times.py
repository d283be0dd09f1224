"""When past items were: columns of times, and how long before the event each past item was."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .errors import UserError
from .ids import is_valid
from .values import Ragged, keep, one_array, ragged_lists


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
        times: list column of their times; what is null there was at the time of the event.
        events: column of the events' own times; where null or None, the newest of the row's times is taken.
        max_length: the last ones of a row are kept.
        where: file, row group and column, for errors.

    Raises:
        UserError: a row with more or fewer times than items.
    """
    if (bad := bad_times(items, times)) is not None:
        row = int(np.argmax(bad))
        raise UserError(
            f"{where}, row {row}", "has not as many times as past items", "Write one time per item of the history."
        )
    ids, offsets = ragged_lists(items)
    of_items, _ = ragged_lists(times)
    at = seconds(of_items) if len(of_items) else np.zeros(0)
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    newest = np.full(len(offsets) - 1, -np.inf)
    np.maximum.at(newest, row, np.nan_to_num(at, nan=-np.inf))
    if events is not None:
        own = seconds(events)
        newest = np.where(np.isnan(own), newest, own)
    ages = np.nan_to_num(newest[row] - at, nan=0.0, posinf=0.0, neginf=0.0).clip(0).astype(np.int64)
    valid = is_valid(ids)
    if not valid.all():
        ages, offsets = keep(ages, offsets, valid)
    since_end = np.repeat(offsets[1:], np.diff(offsets)) - np.arange(len(ages))
    return keep(ages, offsets, since_end <= max_length)


def bad_times(items: pa.ChunkedArray | pa.Array, times: pa.ChunkedArray | pa.Array) -> np.ndarray | None:
    """``[N]`` bool, True for rows that have not as many times as items; None where all have."""
    lengths = [
        pc.fill_null(pc.list_value_length(one_array(c)), 0).to_numpy(zero_copy_only=False)
        if not pa.types.is_null(c.type)
        else np.zeros(len(c), np.int64)
        for c in (items, times)
    ]
    bad = lengths[0] != lengths[1]
    return bad if bad.any() else None
