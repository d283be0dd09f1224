"""When past items were: columns of times, and how long before the event each past item was."""

import numpy as np
import pyarrow as pa

from ..errors import UserError
from .beside_history import of_items, of_kept_items
from .column_types import is_list, one_array
from .ids import is_valid
from .values import Ragged, ragged_lists, within

LATEST = 1e18
"""Seconds; twice as many fit into 64 bits."""


def seconds(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """``[N]`` float64 seconds of timestamps, dates or numbers (of seconds); NaN where null."""
    array = one_array(column)
    kind, a_second = array.type, 1.0
    if pa.types.is_timestamp(kind):
        a_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[kind.unit]
        array = array.cast(pa.int64())
    elif pa.types.is_date(kind):
        array = array.cast(pa.timestamp("s")).cast(pa.int64())
    # Unsafe: numbers above 2**53 are rounded, nanoseconds since 1970 to some hundreds of them.
    # Divided, as a product with 1e-9 is not exact: the same time would differ between files of different units.
    return array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) / a_second


def bad_times(column: pa.ChunkedArray | pa.Array) -> np.ndarray | None:
    """``[N]`` bool, True for rows with a time that is NaN or beyond ``LATEST``; None where all are good.

    Args:
        column: of times, or of lists of them.
    """
    array = one_array(column)
    values, offsets = ragged_lists(array) if is_list(array.type) else (array, None)
    at = seconds(values)
    if not values.null_count and within(at, LATEST):
        return None
    bad = is_valid(values) & ~(np.abs(at) <= LATEST)
    if offsets is not None:
        before = np.concatenate([[0], np.cumsum(bad)])[offsets]
        bad = before[1:] > before[:-1]
    return bad if bad.any() else None


def check_times(column: pa.ChunkedArray | pa.Array, where: str) -> None:
    """Raises a UserError for what `bad_times` finds; ``where`` is file, row group and column."""
    if (bad := bad_times(column)) is not None:
        raise UserError(
            f"{where}, row {int(np.argmax(bad))}",
            f"holds a time that is NaN or more than {LATEST:g} seconds from 1970",
            "Write null where a time is unknown.",
        )


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
        UserError: a row with more or fewer times than items, or one that is no time.
    """
    check_times(times, where)
    told = of_items(items, times, where, "time", "times")
    _, offsets = ragged_lists(items)
    at = seconds(told) if len(told) else np.zeros(0)
    row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    newest = np.full(len(offsets) - 1, -np.inf)
    np.maximum.at(newest, row, np.nan_to_num(at, nan=-np.inf))
    if events is not None:
        check_times(events, f"{where}, of their events")
        own = seconds(events)
        newest = np.where(np.isnan(own), newest, own)
    ages = np.nan_to_num(newest[row] - at, nan=0.0, posinf=0.0, neginf=0.0).clip(0)
    # Rounded down, but for what floating point lacks to a whole second; it fits, as `LATEST` bounds it.
    ages = (ages + 1e-6).astype(np.int64)
    return of_kept_items(ages, items, max_length)
