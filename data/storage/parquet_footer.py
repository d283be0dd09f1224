"""What a Parquet footer says of its column chunks, read from its Thrift bytes.

pyarrow ends the process where it is asked for a column chunk of a damaged footer.
"""

import io
import struct
from functools import lru_cache
from typing import Any

import pyarrow.parquet as pq

_ROW_GROUPS, _COLUMNS, _META_DATA, _NUM_VALUES = (
    4,
    1,
    3,
    5,
)  # fields of FileMetaData, RowGroup, ColumnChunk, ColumnMetaData
_SIZES, _HISTOGRAMS = 16, (2, 3)  # of ColumnMetaData; of SizeStatistics
_MAGIC, _TAIL = 4, 8


@lru_cache(maxsize=256)
def values_of_chunks(metadata: pq.FileMetaData) -> list[list[int]]:
    """Row group -> values of each column chunk, nulls and the entries of lists counted.

    Where it raises nothing, pyarrow may be asked for a column chunk.

    Raises:
        ValueError: it is damaged.
    """
    columns = [metadata.schema.column(position) for position in range(metadata.num_columns)]
    levels = [(column.max_repetition_level + 1, column.max_definition_level + 1) for column in columns]
    out = io.BytesIO()
    metadata.write_metadata_file(out)
    try:
        footer, _ = _struct(out.getvalue()[_MAGIC:-_TAIL], 0)
        chunks = [[chunk[_META_DATA] for chunk in group[_COLUMNS]] for group in footer[_ROW_GROUPS]]
        for of_group in chunks:
            for chunk, known in zip(of_group, levels, strict=True):
                told = chunk.get(_SIZES, {})
                if any(len(told.get(at, ())) not in (0, size) for at, size in zip(_HISTOGRAMS, known, strict=True)):
                    raise LookupError(told)
        return [[chunk[_NUM_VALUES] for chunk in of_group] for of_group in chunks]
    except (LookupError, TypeError, ValueError, AttributeError, struct.error, RecursionError) as error:
        raise ValueError("its footer is damaged") from error


def _struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """Field -> value, and where it ends, in Thrift's compact protocol."""
    fields, field = {}, 0
    while head := data[at]:
        at += 1
        if head >> 4:
            field += head >> 4
        else:
            field, at = _integer(data, at)
        if head & 15 in (1, 2):
            fields[field] = head & 15 == 1
        else:
            fields[field], at = _value(data, at, head & 15)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (1, 2, 3):
        return data[at], at + 1
    if kind in (4, 5, 6):
        return _integer(data, at)
    if kind == 7:
        return struct.unpack_from("<d", data, at)[0], at + 8
    if kind == 8:
        size, at = _varint(data, at)
        return data[at : at + size], at + size
    if kind in (9, 10):
        size, at, kind = data[at] >> 4, at + 1, data[at] & 15
        if size == 15:
            size, at = _varint(data, at)
        values = []
        for _ in range(size):
            value, at = _value(data, at, kind)
            values.append(value)
        return values, at
    if kind == 12:
        return _struct(data, at)
    raise LookupError(kind)  # maps are in no footer


def _integer(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return value >> 1 ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
