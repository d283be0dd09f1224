"""Arrow columns as NumPy arrays: ids, ragged lists, numbers and vectors, with one meaning of "missing" each."""

import fbgemm_gpu  # noqa: F401  its operators
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from .errors import UserError
from .experiment import FeatureConfig
from .ids import id_keys, is_valid

Ragged = tuple[np.ndarray, np.ndarray]
"""Values ``[total]`` and offsets ``[N + 1]`` int64."""


def one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as a single array."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def ragged_keys(column: pa.ChunkedArray | pa.Array, max_length: int) -> Ragged:
    """Id keys of a list column, the last ``max_length`` of each row; a null list is empty, null ids are dropped."""
    array = one_array(column)
    if pa.types.is_null(array.type):
        return np.zeros(0, np.uint64), np.zeros(len(array) + 1, np.int64)
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.large_list(array.type.value_type))
    if array.null_count:
        array = pc.fill_null(array, pa.scalar([], array.type))
    offsets = array.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    values = array.values.slice(offsets[0], offsets[-1] - offsets[0])
    offsets = offsets - offsets[0]
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


def keep(values: np.ndarray, offsets: np.ndarray, mask: np.ndarray) -> Ragged:
    """A ragged array without the values where ``mask`` is False."""
    kept_before = np.concatenate([[0], np.cumsum(mask)])
    return values[mask], kept_before[offsets]


def take_ragged(values: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> Ragged:
    """Rows of a ragged array; row -1 is an empty one."""
    values = values[offsets[0] : offsets[-1]]  # of a slice, the offsets begin where it does
    lengths = np.zeros(len(offsets), np.int64)
    np.subtract(offsets[1:], offsets[:-1], out=lengths[:-1])
    at = rows.astype(np.int32)
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


def numbers(column: pa.ChunkedArray | pa.Array, feature: FeatureConfig, where: str) -> np.ndarray:
    """A dense column as ``[N]`` float64 after its transform; NaN where null.

    Raises:
        UserError: a NaN, an infinity, or (log1p) a value not above -1.
    """
    array = one_array(column)
    values = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)  # integers above 2**53 are rounded
    if array.null_count or not _all_finite(values) or (feature.transform == "log1p" and values.min(initial=0) <= -1):
        valid = is_valid(array)
        bad = valid & (~np.isfinite(values) | ((values <= -1) if feature.transform == "log1p" else False))
        if bad.any():
            row = int(np.argmax(bad))
            raise UserError(
                f"{where}, row {row}",
                f"the value is {values[row]}",
                "Write null where a value is unknown; log1p takes values above -1 only.",
            )
    return np.log1p(values) if feature.transform == "log1p" else values


def vector_rows(column: pa.ChunkedArray | pa.Array, size: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """A vector column as ``[N, size]`` float32, zeros where null, and ``[N]`` bool of the rows that have one.

    Raises:
        UserError: a vector of another length, or with a NaN or infinity in it.
    """
    array = one_array(column)
    present = is_valid(array)
    out = np.zeros((len(array), size), np.float32)
    if pa.types.is_null(array.type) or not present.any():
        return out, present
    lengths = pc.list_value_length(array).fill_null(size).to_numpy(zero_copy_only=False)
    if (lengths != size).any():
        row = int(np.argmax(lengths != size))
        raise UserError(
            f"{where}, row {row}",
            f"the vector has {lengths[row]} values",
            f"This experiment says {size}; make them agree.",
        )
    values = array.drop_null().flatten() if array.null_count else array.flatten()
    values = values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    if not _all_finite(values):
        row = int(np.flatnonzero(present)[int(np.argmax(~np.isfinite(values))) // size])
        raise UserError(
            f"{where}, row {row}", "the vector holds a NaN or an infinity", "Write null where a vector is unknown."
        )
    if not array.null_count:
        return values.reshape(-1, size), present
    out[present] = values.reshape(-1, size)
    return out, present


def _all_finite(values: np.ndarray) -> bool:
    # A sum is finite only if all values are, or overflows; it takes a quarter of the time that looking at each does.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())
