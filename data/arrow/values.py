"""Arrow columns as NumPy arrays: ids, ragged lists, numbers and vectors, with one meaning of "missing" each."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UserError
from .column_types import one_array
from .ids import id_keys, is_valid

LARGEST = 1e30
"""Of dense values and those of vectors. A deviation is at least 1e-8, so standardised ones stay finite in float32."""

NO_NUMBER = "no finite number that fits"
"""What `bad_numbers` finds, for messages."""

Ragged = tuple[np.ndarray, np.ndarray]
"""Values ``[total]`` and offsets ``[N + 1]`` int64."""


def ragged_keys(column: pa.ChunkedArray | pa.Array, max_length: int) -> Ragged:
    """Id keys of a list column, the last ``max_length`` of each row; a null list is empty, null ids are dropped."""
    values, offsets = ragged_lists(column)
    keys, valid = id_keys(values)
    if values.null_count:
        keys, offsets = keep(keys, offsets, valid)
    lengths = np.diff(offsets)
    if len(lengths) and lengths.max() > max_length:
        kept = np.minimum(lengths, max_length)
        new = np.concatenate([[0], np.cumsum(kept)])
        keys = keys[_positions(offsets[1:] - kept, kept, new)]
        offsets = new
    return keys, offsets


def ragged_lists(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Values ``[total]`` of a list column, and offsets ``[N + 1]`` int64; a null list is empty."""
    array = one_array(column)
    if pa.types.is_null(array.type):
        return pa.nulls(0, pa.int64()), np.zeros(len(array) + 1, np.int64)
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.large_list(array.type.value_type))
    if array.null_count:
        array = pc.fill_null(array, pa.scalar([], array.type))
    offsets = array.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    return array.values.slice(offsets[0], offsets[-1] - offsets[0]), offsets - offsets[0]


def keep(values: np.ndarray, offsets: np.ndarray, mask: np.ndarray) -> Ragged:
    """A ragged array without the values where ``mask`` is False."""
    kept_before = np.concatenate([[0], np.cumsum(mask)])
    return values[mask], kept_before[offsets]


def take_ragged(values: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> Ragged:
    """Rows of a ragged array; row -1 is an empty one."""
    # Slow to import, and what reads an experiment, checks and counts does without.
    import fbgemm_gpu  # noqa: F401  its operators
    import torch

    values = values[offsets[0] : offsets[-1]]  # of a slice, the offsets begin where it does
    lengths = np.zeros(len(offsets), np.int64)
    np.subtract(offsets[1:], offsets[:-1], out=lengths[:-1])
    at = rows.astype(np.int32)  # all that the operator takes; a process holds no catalog of 2**31 rows
    at[at < 0] = len(lengths) - 1  # the one more row at the end is the empty one that -1 means
    taken, flat, _ = torch.ops.fbgemm.permute_1D_sparse_data(
        torch.from_numpy(at), torch.from_numpy(lengths), torch.from_numpy(values), None, None
    )
    return flat.numpy(), offsets_of(taken.numpy())


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """``[N + 1]`` int64 offsets of rows of these lengths."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _positions(starts: np.ndarray, lengths: np.ndarray, new_offsets: np.ndarray) -> np.ndarray:
    """Positions start, start + 1, ... of every row, one after another."""
    return np.arange(new_offsets[-1]) + np.repeat(starts - new_offsets[:-1], lengths)


def numbers(column: pa.ChunkedArray | pa.Array, where: str, above: float | None = None) -> np.ndarray:
    """A column of numbers as ``[N]`` float64; NaN where null.

    Raises:
        UserError: a NaN, a number beyond ``LARGEST``, or one that is not ``above`` that bound.
    """
    array = one_array(column)
    values = _as_floats(array)
    if (bad := _bad_floats(values, array, above)) is not None:
        row = int(np.argmax(bad))
        raise UserError(
            f"{where}, row {row}",
            f"the value is {values[row]}",
            f"Write null where a value is unknown; values go up to {LARGEST:g}"
            + ("." if above is None else f", and only those above {above:g} are taken here."),
        )
    return values


def bad_numbers(array: pa.Array, above: float | None = None) -> np.ndarray | None:
    """``[N]`` bool, True for a NaN, a number beyond ``LARGEST`` and what is not ``above`` that bound; None where all are good."""
    return _bad_floats(_as_floats(array), array, above)


def _as_floats(array: pa.Array) -> np.ndarray:
    # Unsafe: integers above 2**53 and decimals are rounded, as every number is that becomes a float32 in the end.
    return array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _bad_floats(values: np.ndarray, array: pa.Array, above: float | None) -> np.ndarray | None:
    if not array.null_count and within(values, LARGEST) and (above is None or values.min(initial=np.inf) > above):
        return None
    bad = is_valid(array) & (~(np.abs(values) <= LARGEST) | (False if above is None else values <= above))
    return bad if bad.any() else None


def bad_weights(column: pa.ChunkedArray | pa.Array) -> np.ndarray | None:
    """``[N]`` bool, True for lists with a number that is NaN, below 0 or beyond ``LARGEST``; None where all are good."""
    values, offsets = ragged_lists(column)
    numbers_of = _as_floats(values)
    bad = is_valid(values) & ~((numbers_of >= 0) & (numbers_of <= LARGEST))
    if not bad.any():
        return None
    before = np.concatenate([[0], np.cumsum(bad)])[offsets]
    return before[1:] > before[:-1]


def floats(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """A column of numbers or booleans, of labels for example, as ``[N]`` float64; NaN where null."""
    return _as_floats(one_array(column))


def vector_rows(column: pa.ChunkedArray | pa.Array, size: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """A vector column as ``[N, size]`` float32, zeros where null, and ``[N]`` bool of the rows that have one.

    Raises:
        UserError: a vector of another length, or with a value that is NaN or beyond ``LARGEST``.
    """
    array = one_array(column)
    present = is_valid(array)
    out = np.zeros((len(array), size), np.float32)
    if pa.types.is_null(array.type) or not present.any():
        return out, present
    lengths = _lengths(array, size)
    if (lengths != size).any():
        row = int(np.argmax(lengths != size))
        raise UserError(
            f"{where}, row {row}",
            f"the vector has {lengths[row]} values",
            f"This experiment says {size}; make them agree.",
        )
    values = _flat(array)
    if not within(values, LARGEST):
        row = int(np.flatnonzero(present)[int(np.argmax(~(np.abs(values) <= LARGEST))) // size])
        raise UserError(
            f"{where}, row {row}",
            f"the vector holds a NaN, an infinity or a number beyond {LARGEST:g}",
            "Write null where a vector is unknown.",
        )
    if not array.null_count:
        return values.reshape(-1, size), present
    out[present] = values.reshape(-1, size)
    return out, present


def bad_vectors(array: pa.Array, size: int) -> np.ndarray | None:
    """``[N]`` bool, True for a vector of another length, or with a value that is NaN or beyond ``LARGEST``; None where all are good."""
    if pa.types.is_null(array.type):
        return None
    bad = (lengths := _lengths(array, size)) != size
    values = _flat(array)
    if not within(values, LARGEST):
        lengths = np.where(is_valid(array), lengths, 0)
        bad[np.repeat(np.arange(len(array)), lengths)[~(np.abs(values) <= LARGEST)]] = True
    return bad if bad.any() else None


def _lengths(array: pa.Array, size: int) -> np.ndarray:
    """``[N]`` lengths of the vectors; ``size`` where null."""
    return pc.list_value_length(array).fill_null(size).to_numpy(zero_copy_only=False)


def _flat(array: pa.Array) -> np.ndarray:
    """The values of all vectors that are not null, as float32; NaN for a null among them."""
    values = array.drop_null().flatten() if array.null_count else array.flatten()
    if pa.types.is_null(values.type):
        return np.full(len(values), np.nan, np.float32)
    with np.errstate(over="ignore"):  # what becomes an infinity is bad all the same
        return values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)


def within(values: np.ndarray, most: float) -> bool:
    """Whether no value is NaN or beyond ``most``, in either direction."""
    return not len(values) or bool(-most <= values.min() and values.max() <= most)
