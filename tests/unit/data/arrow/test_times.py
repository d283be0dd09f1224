"""Columns of times, and how long before the event each past item was."""

import datetime
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundrank.data.arrow.column_need import ColumnNeed
from foundrank.data.arrow.column_types import LIST_ID, LIST_TIME, NUMBER, TIME, holds
from foundrank.data.arrow.times import ragged_ages, seconds
from foundrank.data.arrow.values import ragged_keys
from foundrank.data.errors import UserError
from foundrank.data.schema.bad_values import refuse_beside, without_bad_values
from foundrank.data.schema.column_needs import HISTORY_FIELD

MOMENT = datetime.datetime(2026, 5, 4, 3, 2, 1)
WEEK = 7 * 24 * 3600


@pytest.mark.parametrize(
    ("kind", "value"),
    [(pa.timestamp(unit, zone), MOMENT) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC")]
    + [(pa.int64(), WEEK), (pa.float32(), WEEK), (pa.date32(), MOMENT.date()), (pa.date64(), MOMENT.date())],
)
def test_times_of_any_kind_are_seconds(kind, value):
    later = value + datetime.timedelta(7) if isinstance(value, datetime.date) else value + WEEK
    found = seconds(pa.array([value, None, later], kind))
    assert found[2] - found[0] == WEEK
    assert np.isnan(found[1])
    assert holds(kind, TIME)
    assert holds(pa.list_(kind), LIST_TIME)
    assert not holds(pa.string(), TIME)
    assert not holds(kind, LIST_TIME)


past = st.lists(st.tuples(st.none() | st.integers(0, 9), st.none() | st.integers(0, 10**9)), max_size=6)


@given(st.lists(st.tuples(st.none() | past, st.none() | st.integers(0, 2 * 10**9)), max_size=6), st.integers(1, 4))
def test_an_age_for_every_id_that_is_kept(rows, most):
    items = pa.array([None if row is None else [i for i, _ in row] for row, _ in rows], pa.list_(pa.int64()))
    times = pa.array([None if row is None else [t for _, t in row] for row, _ in rows], pa.large_list(pa.int64()))
    now = pa.array([moment for _, moment in rows], pa.int64())
    for events in (now, None):
        ages, offsets = ragged_ages(items, times, events, most, "here")
        keys, wanted_offsets = ragged_keys(items, most)
        assert offsets.tolist() == wanted_offsets.tolist()
        assert len(ages) == len(keys)
        for at, (row, moment) in enumerate(rows):
            known = [t for _, t in row or [] if t is not None]
            asked = moment if events is not None and moment is not None else max(known, default=None)
            wanted = [0 if t is None or asked is None else max(asked - t, 0) for i, t in row or [] if i is not None]
            assert ages[offsets[at] : offsets[at + 1]].tolist() == wanted[-most:]


def test_a_row_with_too_few_times_is_a_bad_row():
    table = pa.table({"past": [[1, 2], [3], None], "when": [[1.0], [2.0], [3.0]]})
    needs = [
        ColumnNeed("past", LIST_ID, HISTORY_FIELD),
        ColumnNeed("when", LIST_TIME, f"{HISTORY_FIELD}.times", beside="past"),
    ]
    left, found = without_bad_values(table, needs)
    assert [(bad.row, bad.column) for bad in found] == [(0, "when"), (2, "when")]
    assert left.to_pylist() == [
        {"past": None, "when": None},
        {"past": [3], "when": [2.0]},
        {"past": None, "when": None},
    ]
    assert ragged_ages(left["past"], left["when"], None, 3, "here")[0].tolist() == [0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.1e18, 1e300])
def test_what_is_no_time_is_told_or_skipped(bad):
    items, fine = pa.array([[1], [2, 3], None]), pa.array([[0.0], [2.0, None], None], pa.list_(pa.float64()))
    spoilt = pa.array([[0.0], [2.0, bad], None], pa.list_(pa.float64()))
    now, no_time = pa.array([9.0, 9.0, None]), pa.array([9.0, bad, None])
    assert ragged_ages(items, fine, now, 3, "here")[0].tolist() == [9, 7, 0]
    with pytest.raises(UserError, match="here, row 1: holds a time that is NaN or more than"):
        ragged_ages(items, spoilt, now, 3, "here")
    with pytest.raises(UserError, match="here, of their events, row 1: holds a time"):
        ragged_ages(items, fine, no_time, 3, "here")
    needs = [
        ColumnNeed("past", LIST_ID, HISTORY_FIELD),
        ColumnNeed("when", LIST_TIME, f"{HISTORY_FIELD}.times", beside="past"),
        ColumnNeed("now", TIME, "x"),
    ]
    for table, column in (
        (pa.table({"past": items, "when": spoilt, "now": now}), "when"),
        (pa.table({"past": items, "when": fine, "now": no_time}), "now"),
    ):
        left, found = without_bad_values(table, needs)
        assert [(one.row, one.column) for one in found] == [(1, column)]
        ages, offsets = ragged_ages(left["past"], left["when"], left["now"], 3, "here")
        assert ages[offsets[0] : offsets[1]].tolist() == [9]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_ages_are_whole_seconds_however_they_are_written(unit):
    moments = [MOMENT + datetime.timedelta(seconds=5 * n) for n in range(200)]
    items, kind = pa.array([list(range(200))]), pa.timestamp(unit)
    ages, _ = ragged_ages(
        items, pa.array([moments], pa.list_(kind)), pa.array([MOMENT + datetime.timedelta(1000)], kind), 200, "here"
    )
    assert ages.tolist() == [86_400_000 - 5 * n for n in range(200)]


def test_what_is_wrong_beside_a_history_is_told_while_counting():
    needs = [
        ColumnNeed("past", LIST_ID, HISTORY_FIELD),
        ColumnNeed("when", LIST_TIME, f"{HISTORY_FIELD}.times", beside="past"),
        ColumnNeed("n", NUMBER, "n"),
    ]
    refuse_beside(pa.table({"past": [[1], None], "when": [[2.0], None], "n": [math.nan, 0.0]}), needs, "f")
    for when, what in (([2.0, 3.0], "holds not as many times as past items"), ([math.inf], "or no times")):
        with pytest.raises(UserError, match=rf"f: column 'when', row 1: .*{what}"):
            refuse_beside(pa.table({"past": [[1], [1]], "when": [[2.0], when], "n": [0.0, 0.0]}), needs, "f")
    refuse_beside(pa.table({"past": [[1]], "n": [0.0]}), [needs[0], needs[2]], "f")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_time_is_the_same_in_every_unit(unit):
    wanted = [978307200, 1367625600]  # 978307200e9 * 1e-9 is something else
    found = seconds(pa.array(wanted, pa.timestamp("s")).cast(pa.timestamp(unit)))
    assert found.tolist() == wanted
