"""Columns that say something about each past item, as long as the history they stand beside."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UserError
from .column_types import one_array
from .ids import is_valid
from .values import Ragged, keep, ragged_lists


def uneven(items: pa.ChunkedArray | pa.Array, beside: pa.ChunkedArray | pa.Array) -> np.ndarray | None:
    """``[N]`` bool, True for rows whose two lists are not of one length; None where all are. A null says nothing of any item."""
    lengths = [
        pc.list_value_length(one_array(c)) if not pa.types.is_null(c.type) else pa.nulls(len(c), pa.int64())
        for c in (items, beside)
    ]
    long, told = (pc.fill_null(of, 0).to_numpy(zero_copy_only=False) for of in lengths)
    bad = (long != told) & is_valid(lengths[1])
    return bad if bad.any() else None


def of_items(
    items: pa.ChunkedArray | pa.Array,
    beside: pa.ChunkedArray | pa.Array,
    where: str,
    one: str,
    more: str,
    of: str = "past item",
) -> pa.Array:
    """What ``beside`` says of each entry of ``items``, one after another; nulls for a row where it says nothing.

    Raises:
        UserError: a row that has not ``one`` of ``more`` for each item; ``where`` is file, row group and column, ``of`` what items are.
    """
    if (bad := uneven(items, beside)) is not None:
        row = int(np.argmax(bad))
        raise UserError(f"{where}, row {row}", f"has not as many {more} as {of}s", f"Write one {one} per {of}.")
    (_, offsets), (values, told) = ragged_lists(items), ragged_lists(beside)
    if np.array_equal(offsets, told):
        return values
    lengths = np.diff(offsets)
    silent = np.repeat((np.diff(told) == 0) & (lengths > 0), lengths)
    return values.take(pa.array(np.cumsum(~silent) - 1, mask=silent))


def of_kept_items(values: np.ndarray, items: pa.ChunkedArray | pa.Array, max_length: int) -> Ragged:
    """Of values ``[total]``, one per entry of ``items``, those of the items that `values.ragged_keys` keeps."""
    ids, offsets = ragged_lists(items)
    valid = is_valid(ids)
    if not valid.all():
        values, offsets = keep(values, offsets, valid)
    since_end = np.repeat(offsets[1:], np.diff(offsets)) - np.arange(len(values))
    return keep(values, offsets, since_end <= max_length)


def ragged_domains(
    items: pa.ChunkedArray | pa.Array,
    domains: pa.ChunkedArray | pa.Array,
    names: Sequence[str],
    max_length: int,
    where: str,
) -> Ragged:
    """In which domain each past item was, int64 positions in ``names``, as many as `values.ragged_keys` gives for ``items``.

    Args:
        items: list column of ids, oldest first.
        domains: list column of names; one that is null or none of ``names`` is -1, in a null list all are.
        names: of the domains.
        max_length: the last ones of a row are kept.
        where: file, row group and column, for errors.

    Raises:
        UserError: a row with more or fewer names than items.
    """
    told = of_items(items, domains, where, "domain", "domains")
    known = pc.index_in(told.cast(pa.string()), value_set=pa.array(names, pa.string()))
    at = pc.fill_null(known, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return of_kept_items(at, items, max_length)
