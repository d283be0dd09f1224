"""Arrow columns of any type, also of types that no list of Python values becomes by itself."""

import datetime
import io
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

Drawn = tuple[pa.DataType, list]

_MOMENTS = st.datetimes(datetime.datetime(1990, 1, 1), datetime.datetime(2050, 1, 1)).map(
    lambda t: t.replace(microsecond=0)
)
_WORDS = st.sampled_from(["", "a", "b", "home", "7", "ß"])
_FLOATS = st.sampled_from([0.0, 1.0, -2.5, 7.0, float("nan"), float("inf")])


def _integers(kind: pa.DataType) -> st.SearchStrategy:
    low, high = (
        (0, 2**kind.bit_width - 1)
        if str(kind)[0] == "u"
        else (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)
    )
    return st.sampled_from([0, 1, 1, 7]) | st.integers(low, high)


SCALARS: dict[pa.DataType, st.SearchStrategy] = {
    **{kind: _integers(kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{kind: _integers(kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    **dict.fromkeys((pa.float16(), pa.float32(), pa.float64()), _FLOATS),
    pa.float64(): _FLOATS | st.sampled_from([1e31, -1e300]),
    **dict.fromkeys((pa.string(), pa.large_string(), pa.string_view(), pa.json_()), _WORDS),
    **dict.fromkeys((pa.binary(), pa.large_binary(), pa.binary_view()), _WORDS.map(str.encode) | st.just(b"\xff")),
    **dict.fromkeys((pa.binary(2), pa.uuid()), st.just(b"0123456789abcdef")),
    **dict.fromkeys(
        (pa.decimal128(9, 2), pa.decimal256(60, 2)),
        st.sampled_from([Decimal("0.00"), Decimal("1.00"), Decimal("-2.50")]),
    ),
    **dict.fromkeys((pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ns")), _MOMENTS),
    **dict.fromkeys((pa.date32(), pa.date64()), _MOMENTS.map(datetime.datetime.date)),
    pa.timestamp("us", "UTC"): _MOMENTS.map(lambda t: t.replace(tzinfo=datetime.UTC)),
    pa.time64("us"): _MOMENTS.map(datetime.datetime.time),
    pa.duration("s"): st.just(datetime.timedelta(1)),
    pa.bool_(): st.booleans(),
    pa.bool8(): st.integers(0, 1),
    pa.null(): st.none(),
}
IN_DICTIONARIES = [pa.string(), pa.large_string(), pa.binary()]  # of which Parquet keeps that they are encoded


def drawn_columns(rows: int) -> st.SearchStrategy[Drawn]:
    """Types and as many values: scalars, dictionaries, and lists of every kind of either, of lists and of structs."""
    scalars = st.sampled_from(list(SCALARS)).map(lambda kind: (kind, SCALARS[kind]))
    encoded = st.sampled_from(IN_DICTIONARIES).map(lambda kind: (pa.dictionary(pa.int32(), kind), SCALARS[kind]))
    nested = st.just((pa.struct({"a": pa.int64()}), st.just({"a": 1})))
    one = scalars | encoded | nested
    kinds = one | (one | one.flatmap(_lists)).flatmap(_lists)
    return kinds.flatmap(
        lambda of: st.tuples(st.just(of[0]), st.lists(st.none() | of[1], min_size=rows, max_size=rows))
    )


def _lists(of: tuple[pa.DataType, st.SearchStrategy]) -> st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy]]:
    kind, values = of
    some, two = st.lists(st.none() | values, max_size=3), st.lists(values, min_size=2, max_size=2)
    variable = [make(kind) for make in (pa.list_, pa.large_list, pa.list_view, pa.large_list_view)]
    return st.sampled_from([*[(lists, some) for lists in variable], (pa.list_(kind, 2), two)])


def array_of(kind: pa.DataType, values: list) -> pa.Array:
    """An array of a type."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    if pa.types.is_fixed_size_binary(kind):
        return pa.array([None if value is None else value[: kind.byte_width] for value in values], kind)
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    if not (pa.types.is_nested(kind) and hasattr(kind, "value_type")):
        return pa.array(
            [np.float16(v) if v is not None else v for v in values] if kind == pa.float16() else values, kind
        )
    missing = pa.array([value is None for value in values], pa.bool_())
    if pa.types.is_fixed_size_list(kind):
        flat = [one for value in values for one in (value or [None] * kind.list_size)]
        return pa.FixedSizeListArray.from_arrays(array_of(kind.value_type, flat), type=kind, mask=missing)
    flat = array_of(kind.value_type, [one for value in values for one in value or []])
    sizes = [len(value or []) for value in values]
    width = pa.int32() if pa.types.is_list(kind) or pa.types.is_list_view(kind) else pa.int64()
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).tolist(), width)
    if pa.types.is_list_view(kind):
        return pa.ListViewArray.from_arrays(offsets[:-1], pa.array(sizes, width), flat, mask=missing)
    if pa.types.is_large_list_view(kind):
        return pa.LargeListViewArray.from_arrays(offsets[:-1], pa.array(sizes, width), flat, mask=missing)
    lists = pa.ListArray if pa.types.is_list(kind) else pa.LargeListArray
    return lists.from_arrays(offsets, flat, mask=missing)


def written(array: pa.Array) -> Any:
    """The Python values of a column, as a Parquet file gives them back."""
    file = io.BytesIO()
    pq.write_table(pa.table({"x": array}), file)
    return pq.ParquetFile(file).read()["x"].to_pylist()
