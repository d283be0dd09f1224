import math
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.arrow.ids import id_keys
from foundrank.data.arrow.values import keep, numbers, ragged_keys, take_ragged, vector_rows
from foundrank.data.errors import UserError

MODEST = settings(max_examples=40)
LISTS = st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-3, 300)), max_size=6)), max_size=12)


def lists_of(values, offsets) -> list[list]:
    assert offsets[0] == 0
    assert offsets[-1] == len(values)
    return [values[a:b].tolist() for a, b in pairwise(offsets)]


def ragged(lists) -> tuple[np.ndarray, np.ndarray]:
    flat = np.array([v for row in lists for v in row], np.int64)
    return flat, np.cumsum([0, *map(len, lists)])


@MODEST
@given(
    LISTS,
    st.sampled_from(
        [pa.list_(pa.int64()), pa.large_list(pa.int32()), pa.list_(pa.string()), pa.large_list(pa.string())]
    ),
    st.integers(1, 7),
    st.integers(0, 4),
)
def test_ragged_keys_equal_python_lists(lists, kind, max_length, skip):
    if pa.types.is_string(kind.value_type):
        lists = [row and [None if v is None else str(v) for v in row] for row in lists]
    one = {v: int(id_keys(pa.array([v], kind.value_type))[0][0]) for row in lists for v in row or [] if v is not None}
    expected = [[one[v] for v in row or [] if v is not None][-max_length:] for row in lists]
    array = pa.array(lists, kind)
    assert lists_of(*ragged_keys(array, max_length)) == expected
    assert lists_of(*ragged_keys(array.slice(skip), max_length)) == expected[skip:]
    chunked = pa.chunked_array([array.slice(0, skip), array.slice(skip)], kind)
    assert lists_of(*ragged_keys(chunked, max_length)) == expected


def test_ragged_keys_of_rare_types():
    fixed = pa.array([[1, 2], None, [3, None]], pa.list_(pa.int64(), 2))
    assert lists_of(*ragged_keys(fixed, 5)) == [[1, 2], [], [3]]
    assert lists_of(*ragged_keys(fixed.slice(1), 5)) == [[], [3]]
    assert lists_of(*ragged_keys(pa.nulls(2), 5)) == [[], []]
    assert lists_of(*ragged_keys(pa.array([[None], [], None], pa.list_(pa.null())), 5)) == [[], [], []]
    coded = pa.array([["a", None], None, ["b"]], pa.list_(pa.dictionary(pa.int32(), pa.string())))
    plain = coded.cast(pa.list_(pa.string()))
    assert lists_of(*ragged_keys(coded, 5)) == lists_of(*ragged_keys(plain, 5))
    # A null list may cover values that belong to no row.
    hidden = pa.ListArray.from_arrays(pa.array([0, 2, 3]), pa.array([7, 8, 9]), mask=pa.array([True, False]))
    assert lists_of(*ragged_keys(hidden, 5)) == [[], [9]]


@MODEST
@given(st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=8), st.data())
def test_take_and_keep_equal_python_lists(lists, data):
    rows = data.draw(st.lists(st.integers(-1, len(lists) - 1), max_size=10))
    taken = take_ragged(*ragged(lists), np.array(rows, np.int64))
    assert lists_of(*taken) == [lists[r] if r >= 0 else [] for r in rows]
    flat, offsets = ragged(lists)
    assert lists_of(*keep(flat, offsets, flat % 2 == 0)) == [[v for v in row if v % 2 == 0] for row in lists]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([2.0, None, 4.0]),
        pa.array([2, None, 4], pa.int8()),
        pa.array([2, None, 4], pa.float16()),
        pa.array([Decimal("2.0"), None, Decimal("4.0")]),
        pa.chunked_array([[2.0, None], [4.0]]),
    ],
)
def test_numbers_of_every_type(array):
    np.testing.assert_array_equal(numbers(array, "x"), [2, math.nan, 4])
    np.testing.assert_allclose(numbers(array, "x", -1.0), [2, math.nan, 4])


def test_numbers_of_other_types():
    np.testing.assert_array_equal(numbers(pa.array([True, None, False]), "x"), [1, math.nan, 0])
    assert np.isnan(numbers(pa.nulls(3), "x")).all()
    assert np.isnan(numbers(pa.nulls(3), "x", -1.0)).all()
    assert numbers(pa.array([], pa.int64()), "x", -1.0).shape == (0,)
    nanoseconds = [1_700_000_000_000_000_001, None]
    np.testing.assert_allclose(numbers(pa.array(nanoseconds, pa.int64()), "x")[0], 1.7e18)


@pytest.mark.parametrize(
    ("values", "above", "told"),
    [
        ([1.0, None, math.nan], None, "events, row 2: the value is nan"),
        ([1.0, math.inf], None, "events, row 1: the value is inf"),
        ([None, -math.inf], -1.0, "events, row 1: the value is -inf"),
        ([0.0, -0.5, -1.0], -1.0, "events, row 2: the value is -1.0"),
        ([-2.0], -1.0, "events, row 0: the value is -2.0"),
        ([1e30, -1.1e30], None, "events, row 1: the value is -1.1e+30"),
        ([1.7e308, 0.0], -1.0, "events, row 0: the value is 1.7e+308"),
    ],
)
def test_bad_numbers_are_named_with_their_row(values, above, told):
    with pytest.raises(UserError) as error:
        numbers(pa.array(values, pa.float64()), "events", above)
    assert str(error.value).startswith(told)


@MODEST
@given(
    st.lists(st.one_of(st.none(), st.lists(st.integers(-9, 9), min_size=3, max_size=3)), max_size=9),
    st.sampled_from(
        [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 3), pa.list_(pa.float16())]
    ),
    st.integers(0, 4),
)
def test_vector_rows_equal_python_lists(vectors, kind, skip):
    as_type = np.float16 if pa.types.is_float16(kind.value_type) else float
    array = pa.array([v and [as_type(x) for x in v] for v in vectors], kind)
    values, present = vector_rows(array.slice(skip), 3, "x")
    assert values.dtype == np.float32
    assert values.shape == (len(vectors[skip:]), 3)
    assert values.tolist() == [v or [0, 0, 0] for v in vectors[skip:]]
    assert present.tolist() == [v is not None for v in vectors[skip:]]


def test_vector_rows_without_any():
    for array in (pa.nulls(2), pa.array([None, None], pa.list_(pa.float32()))):
        values, present = vector_rows(array, 3, "x")
        assert not values.any()
        assert values.shape == (2, 3)
        assert not present.any()


@pytest.mark.parametrize(
    ("vectors", "told"),
    [
        ([[1.0, 2.0], None, [1.0]], "events, row 2: the vector has 1 values. This experiment says 2"),
        ([None, [1.0, 2.0, 3.0]], "events, row 1: the vector has 3 values"),
        ([[1.0, 2.0], []], "events, row 1: the vector has 0 values"),
        ([None, [1.0, 2.0], None, [1.0, math.nan]], "events, row 3: the vector holds a NaN, an infinity or"),
        ([None, [math.inf, 1.0]], "events, row 1: the vector holds a NaN, an infinity or"),
        ([[1.0, 1e31]], "events, row 0: the vector holds a NaN, an infinity or a number beyond 1e+30"),
        ([[1.0, -1e300]], "events, row 0: the vector holds a NaN, an infinity or"),
        ([[1.0, None]], "events, row 0: the vector holds a NaN, an infinity or"),
    ],
)
def test_bad_vectors_are_named_with_their_row(vectors, told):
    with pytest.raises(UserError) as error:
        vector_rows(pa.array(vectors, pa.list_(pa.float64())), 2, "events")
    assert str(error.value).startswith(told)
