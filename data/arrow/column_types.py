"""Which Arrow types a column may have for what it is used as, and the plain types that all of them become."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

SCALAR_ID, LIST_ID, NUMBER, VECTOR, LABEL = "id", "list of ids", "number", "vector", "label"
PROBABILITY, NAME, TEXT, ANYTHING = "probability", "name", "text", "anything"
TIME, LIST_TIME, LIST_NAME, LIST_NUMBER = "time", "list of times", "list of names", "list of numbers"
STRING_LABEL = "label of a string"
LABELS = (LABEL, STRING_LABEL)
WEIGHT = "weight"

Test = Callable[[pa.DataType], bool]


def is_string(kind: pa.DataType) -> bool:
    """Any of Arrow's string types, plain or encoded."""
    kind = plain_type(kind)
    return types.is_string(kind) or types.is_large_string(kind)


def is_list(kind: pa.DataType) -> bool:
    """A plain list: of variable length with offsets of either width, or of fixed length."""
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return types.is_binary(kind) or types.is_large_binary(kind)


_NUMBERS: tuple[Test, ...] = (types.is_integer, types.is_floating, types.is_decimal)
# What a column is used as -> its plain types. All of them may be null, too: a column in which nothing is known.
_ONE: dict[str, tuple[Test, ...]] = {
    SCALAR_ID: (types.is_integer, is_string),
    NAME: (is_string,),
    NUMBER: (*_NUMBERS, types.is_boolean),
    PROBABILITY: (*_NUMBERS, types.is_boolean),
    LABEL: (*_NUMBERS, types.is_boolean),
    STRING_LABEL: (is_string,),
    WEIGHT: (*_NUMBERS, types.is_boolean),
    TIME: (*_NUMBERS, types.is_timestamp, types.is_date),
    TEXT: (*_NUMBERS, types.is_boolean, types.is_timestamp, types.is_date, types.is_time, is_string, _is_binary),
}
_LISTS_OF: dict[str, tuple[Test, ...]] = {
    LIST_ID: _ONE[SCALAR_ID],
    LIST_TIME: _ONE[TIME],
    LIST_NAME: _ONE[NAME],
    LIST_NUMBER: _NUMBERS,
    TEXT: _ONE[TEXT],
    VECTOR: (types.is_floating,),
}
_IN_WORDS = {
    SCALAR_ID: "integers or strings",
    NAME: "strings",
    NUMBER: "numbers",
    PROBABILITY: "numbers",
    LABEL: "numbers or booleans",
    STRING_LABEL: "strings",
    WEIGHT: "numbers",
    TIME: "timestamps, dates or numbers of seconds",
    TEXT: "strings, numbers, dates, booleans, or lists of them",
    LIST_ID: "lists of integers or strings",
    LIST_TIME: "lists of timestamps, dates or numbers of seconds",
    LIST_NAME: "lists of strings",
    LIST_NUMBER: "lists of numbers",
    VECTOR: "lists of floats",
}


def holds(kind: pa.DataType, wanted: str, size: int = 0) -> bool:
    """Whether a column of an Arrow type can serve as ``wanted``; ``size`` is a vector's."""
    kind = plain_type(kind)
    if wanted == ANYTHING or _is_one(kind, _ONE.get(wanted, ())):
        return True
    if not is_list(kind) or wanted not in _LISTS_OF:
        return False
    if wanted == VECTOR and types.is_fixed_size_list(kind) and kind.list_size != size:
        return False
    return _is_one(kind.value_type, _LISTS_OF[wanted])


def _is_one(kind: pa.DataType, tests: tuple[Test, ...]) -> bool:
    return types.is_null(kind) or any(test(kind) for test in tests)


def in_words(wanted: str, size: int = 0) -> str:
    """What `holds` takes for ``wanted``, for messages."""
    return _IN_WORDS[wanted] + (f" of length {size}" if size else "")


def id_family(kind: pa.DataType) -> str | None:
    """``string`` or ``integer``, for a column of ids or of lists of them; None where it holds nothing that could tell."""
    kind = plain_type(kind)
    kind = kind.value_type if is_list(kind) else kind
    if types.is_null(kind):
        return None
    return "string" if is_string(kind) else "integer"


def is_unsigned(kind: pa.DataType) -> bool:
    """Whether ids, or lists of them, are integers of 64 bits without a sign."""
    kind = plain_type(kind)
    return types.is_uint64(kind.value_type if is_list(kind) else kind)


def plain_type(kind: pa.DataType, keep_dictionaries: bool = False) -> pa.DataType:
    """The type of the same values, written plainly: the one form of them that is worked with.

    Views become offsets of 64 bits (rows cannot be picked from views), dictionaries their values, extensions what they
    are stored as; so do the elements of lists.

    Args:
        kind: of a column.
        keep_dictionaries: of strings and integers, of which ids are read faster than of their values.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type, keep_dictionaries)
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_dictionary(kind):
        value = plain_type(kind.value_type)
        kept = keep_dictionaries and value == kind.value_type and any(test(value) for test in _ONE[SCALAR_ID])
        return kind if kept else value
    if is_list(kind) or types.is_list_view(kind) or types.is_large_list_view(kind):
        value = plain_type(kind.value_type, keep_dictionaries)
        if is_list(kind) and value == kind.value_type:
            return kind
        if types.is_fixed_size_list(kind):
            return pa.list_(value, kind.list_size)
        return pa.list_(value) if types.is_list(kind) else pa.large_list(value)
    return kind


def plain_table(table: pa.Table, keep_dictionaries: bool = True) -> pa.Table:
    """The table with columns of plain types."""
    for at, field in enumerate(table.schema):
        kind = plain_type(field.type, keep_dictionaries)
        if kind != field.type:
            chunks = [_as_plain(chunk, kind) for chunk in table.column(at).chunks]
            table = table.set_column(at, field.name, pa.chunked_array(chunks, kind))
    return table


def one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as a single array of a plain type, dictionaries of strings and integers as they are."""
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    kind = plain_type(column.type, keep_dictionaries=True)
    return column if kind == column.type else _as_plain(column, kind)


def _as_plain(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if not (types.is_list_view(array.type) or types.is_large_list_view(array.type)):
        return array.cast(kind)
    # Arrow 26 casts views of lists as if they lay in order from the first on, which a slice's do not.
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, array.flatten().cast(kind.value_type), mask=array.is_null())
