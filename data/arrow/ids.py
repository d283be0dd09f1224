"""Ids of any type as 64-bit keys, the same in every process and every version."""

import numpy as np
import pyarrow as pa

from ..errors import UserError
from .column_types import one_array

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele et al., 2014): a bijection of uint64 that spreads every bit."""
    x = x.astype(np.uint64, copy=True)
    x += _GOLDEN
    x ^= x >> np.uint64(30)
    x *= _MIX_1
    x ^= x >> np.uint64(27)
    x *= _MIX_2
    return x ^ (x >> np.uint64(31))


def id_keys(array: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of a column of ids.

    An integer's key is its 64 bits: one of 2**63 or more, without a sign, is the negative one that systems without such
    numbers write. A string's key is a 64-bit hash of its UTF-8 bytes. Two of a million distinct strings
    share a key with probability below 1e-7.

    Returns:
        keys: ``[N]`` uint64, 0 where null.
        valid: ``[N]`` bool, False where null.

    Raises:
        UserError: the column holds neither integers nor strings.
    """
    array = one_array(array)
    if pa.types.is_dictionary(array.type):
        keys, known = id_keys(array.dictionary)
        positions = array.indices.fill_null(0).to_numpy(zero_copy_only=False)
        valid = is_valid(array)
        if len(keys) == 0:
            return np.zeros(len(array), np.uint64), np.zeros(len(array), bool)
        return np.where(valid, keys[positions], np.uint64(0)), valid & known[positions]
    valid = is_valid(array)
    if pa.types.is_integer(array.type):
        values = array.fill_null(0) if array.null_count else array
        values = values if pa.types.is_uint64(array.type) else values.cast(pa.int64())
        return values.to_numpy(zero_copy_only=False).view(np.uint64), valid
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        values = array.cast(pa.large_string())
        values = values.fill_null("") if array.null_count else values
        return np.where(valid, _hash_strings(values), np.uint64(0)), valid
    if pa.types.is_null(array.type):
        return np.zeros(len(array), np.uint64), np.zeros(len(array), bool)
    raise UserError(
        f"an id column of type {array.type}", "holds neither integers nor strings", "Cast it when writing the events."
    )


def hash_rows(keys: np.ndarray, buckets: int) -> np.ndarray:
    """Rows 1..buckets of a hashed table for ``keys`` (row 0 stays the unknown id's)."""
    return (mix(keys) % np.uint64(buckets)).astype(np.int32 if buckets < 2**31 - 1 else np.int64) + 1


def is_valid(array: pa.Array) -> np.ndarray:
    """``[N]`` bool, False where null."""
    return array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else np.ones(len(array), bool)


def _hash_strings(array: pa.Array) -> np.ndarray:
    """Multilinear hash of the bytes (Lemire and Kaser, 2014), then `mix`; no loop over rows."""
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    if len(array) == 0:
        return np.zeros(0, np.uint64)
    lengths = np.diff(offsets)
    data = array.buffers()[2]
    characters = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data else np.zeros(0, np.uint8)
    starts = offsets[:-1] - offsets[0]
    sums = np.zeros(len(array), np.uint64)
    filled = lengths > 0
    if filled.any():
        position = np.arange(len(characters)) - np.repeat(starts, lengths)
        multipliers = mix(np.arange(int(lengths.max()), dtype=np.uint64)) | np.uint64(1)
        terms = (characters.astype(np.uint64) + np.uint64(1)) * multipliers[position]
        sums[filled] = np.add.reduceat(terms, starts[filled])
    return mix(sums ^ (lengths.astype(np.uint64) << np.uint64(48)))
