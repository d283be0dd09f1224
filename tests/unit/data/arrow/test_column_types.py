"""The types each use of a column takes, and the plain types they become."""

import datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from foundrank.data.arrow.column_types import (
    ANYTHING,
    LABEL,
    LIST_ID,
    LIST_NAME,
    LIST_TIME,
    NAME,
    NUMBER,
    PROBABILITY,
    SCALAR_ID,
    TEXT,
    TIME,
    VECTOR,
    holds,
    id_family,
    one_array,
    plain_table,
    plain_type,
)

USES = {SCALAR_ID, LIST_ID, NUMBER, PROBABILITY, VECTOR, LABEL, TIME, LIST_TIME, NAME, LIST_NAME, TEXT}
NUMBERS = {NUMBER, PROBABILITY, LABEL, TIME, TEXT}
STRINGS = {SCALAR_ID, NAME, TEXT}
LISTS = {LIST_ID, LIST_NAME, LIST_TIME, TEXT}
TABLE = {
    pa.null(): USES,
    pa.int8(): {SCALAR_ID, *NUMBERS},
    pa.uint64(): {SCALAR_ID, *NUMBERS},
    pa.bool8(): {SCALAR_ID, *NUMBERS},
    pa.float16(): NUMBERS,
    pa.float64(): NUMBERS,
    pa.decimal128(9, 2): NUMBERS,
    pa.decimal256(60, 2): NUMBERS,
    pa.bool_(): NUMBERS - {TIME},
    pa.string(): STRINGS,
    pa.large_string(): STRINGS,
    pa.string_view(): STRINGS,
    pa.json_(): STRINGS,
    pa.dictionary(pa.int8(), pa.string()): STRINGS,
    pa.dictionary(pa.uint32(), pa.string_view()): STRINGS,
    pa.dictionary(pa.int8(), pa.int64()): {SCALAR_ID, *NUMBERS},
    pa.dictionary(pa.int8(), pa.float64()): NUMBERS,
    pa.binary(): {TEXT},
    pa.large_binary(): {TEXT},
    pa.binary_view(): {TEXT},
    pa.binary(16): set(),
    pa.uuid(): set(),
    pa.date32(): {TIME, TEXT},
    pa.timestamp("ms"): {TIME, TEXT},
    pa.timestamp("ns", "UTC"): {TIME, TEXT},
    pa.time64("us"): {TEXT},
    pa.duration("s"): set(),
    pa.month_day_nano_interval(): set(),
    pa.list_(pa.null()): {*LISTS, VECTOR},
    pa.list_(pa.int32()): {LIST_ID, LIST_TIME, TEXT},
    pa.large_list(pa.string()): {LIST_ID, LIST_NAME, TEXT},
    pa.list_view(pa.string_view()): {LIST_ID, LIST_NAME, TEXT},
    pa.large_list_view(pa.dictionary(pa.int8(), pa.string())): {LIST_ID, LIST_NAME, TEXT},
    pa.list_(pa.string(), 2): {LIST_ID, LIST_NAME, TEXT},
    pa.list_(pa.timestamp("s")): {LIST_TIME, TEXT},
    pa.list_(pa.float32()): {VECTOR, LIST_TIME, TEXT},
    pa.large_list(pa.float16()): {VECTOR, LIST_TIME, TEXT},
    pa.list_(pa.float32(), 2): {VECTOR, LIST_TIME, TEXT},
    pa.list_(pa.float32(), 3): {LIST_TIME, TEXT},
    pa.fixed_shape_tensor(pa.float32(), [2]): {VECTOR, LIST_TIME, TEXT},
    pa.list_(pa.bool_()): {TEXT},
    pa.list_(pa.binary()): {TEXT},
    pa.list_(pa.list_(pa.int32())): set(),
    pa.struct({"a": pa.int64()}): set(),
    pa.map_(pa.string(), pa.int64()): set(),
    pa.run_end_encoded(pa.int32(), pa.string()): set(),
}


@pytest.mark.parametrize("kind", TABLE, ids=str)
def test_what_each_type_can_serve_as(kind):
    assert {wanted for wanted in USES if holds(kind, wanted, 2)} == TABLE[kind]
    assert holds(kind, ANYTHING)


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        (pa.null(), None),
        (pa.list_(pa.null()), None),
        (pa.uint64(), "integer"),
        (pa.list_view(pa.int8()), "integer"),
        (pa.dictionary(pa.int8(), pa.string_view()), "string"),
        (pa.list_(pa.dictionary(pa.int8(), pa.string()), 3), "string"),
    ],
    ids=str,
)
def test_integers_and_strings_are_two_families(kind, family):
    assert id_family(kind) == family


WORDS, LISTS_OF_WORDS = ["a", None, "b"], [["a", "b"], None, [None, "b"]]
VALUES = [
    (pa.string_view(), WORDS),
    (pa.dictionary(pa.int8(), pa.string()), WORDS),
    (pa.dictionary(pa.int8(), pa.float64()), [1.5, None, 2.5]),
    (pa.json_(), WORDS),
    (pa.bool8(), [1, None, 0]),
    (pa.list_(pa.string_view()), LISTS_OF_WORDS),
    (pa.list_view(pa.string()), LISTS_OF_WORDS),
    (pa.large_list_view(pa.string_view()), LISTS_OF_WORDS),
    (pa.list_(pa.string_view(), 2), LISTS_OF_WORDS),
    (pa.list_(pa.dictionary(pa.int8(), pa.string())), LISTS_OF_WORDS),
    (pa.fixed_shape_tensor(pa.float32(), [2]), [[1.0, 2.0], None, [3.0, 4.0]]),
    (pa.binary_view(), [b"a", None, b"b"]),
    (pa.uint64(), [2**64 - 1, None, 0]),
    (pa.decimal128(5, 2), [Decimal("1.50"), None, Decimal("-2.00")]),
    (pa.timestamp("ms"), [datetime.datetime(2026, 5, 4), None, datetime.datetime(2026, 5, 5)]),
]


def column(kind: pa.DataType, values: list) -> pa.Array:
    """An array of any type, also of those that cannot be made of Python values."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    if pa.types.is_list(kind) and pa.types.is_dictionary(kind.value_type):
        plain = pa.array(values, pa.list_(kind.value_type.value_type))
        return pa.ListArray.from_arrays(
            plain.offsets, column(kind.value_type, plain.values.to_pylist()), mask=plain.is_null()
        )
    return pa.array(values, kind)


@pytest.mark.parametrize(("kind", "values"), VALUES, ids=str)
def test_the_values_stay_when_the_type_becomes_plain(kind, values):
    array = column(kind, values)
    for keep in (True, False):
        plain = plain_table(pa.table({"x": pa.chunked_array([array[:1], array[1:]])}), keep)
        assert plain["x"].to_pylist() == values
        assert plain["x"].type == plain_type(kind, keep)
        assert plain_type(plain["x"].type, keep) == plain["x"].type  # there is nothing left to do
        assert plain["x"].take(pa.array([2, None])).to_pylist() == [values[2], None]  # rows can be picked
        assert pc.drop_null(plain["x"]).to_pylist() == [values[0], values[2]]
    assert one_array(pa.chunked_array([array, array[:1]])).to_pylist() == [*values, values[0]]
    assert one_array(pa.chunked_array([], kind)).to_pylist() == []


def test_only_dictionaries_that_ids_are_read_of_are_kept():
    words, number = pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int8(), pa.float64())
    assert plain_type(words, keep_dictionaries=True) == words
    assert plain_type(words) == pa.string()
    assert plain_type(number, keep_dictionaries=True) == pa.float64()
    assert plain_type(pa.list_(words), keep_dictionaries=True) == pa.list_(words)
    assert plain_type(pa.dictionary(pa.int8(), pa.string_view()), keep_dictionaries=True) == pa.large_string()
