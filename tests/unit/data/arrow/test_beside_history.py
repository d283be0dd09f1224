"""What stands beside past items: here, in which domain they were."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundrank.data.arrow.beside_history import ragged_domains
from foundrank.data.arrow.column_need import ColumnNeed
from foundrank.data.arrow.column_types import LIST_ID, LIST_NAME, LIST_TIME, holds
from foundrank.data.arrow.times import ragged_ages
from foundrank.data.arrow.values import ragged_keys
from foundrank.data.errors import UserError
from foundrank.data.schema.bad_values import without_bad_values
from foundrank.data.schema.column_needs import HISTORY_FIELD

from ..batch.test_assemble import row_lists

NAMES = ("find", "home")
past = st.lists(st.tuples(st.none() | st.integers(0, 9), st.none() | st.sampled_from([*NAMES, "gone"])), max_size=6)


@given(
    st.lists(st.none() | past, max_size=6),
    st.integers(1, 4),
    st.sampled_from([pa.string(), pa.large_string()]),
    st.sets(st.integers(0, 5)),
)
def test_a_domain_for_every_id_that_is_kept(rows, most, kind, silent):
    items = pa.array([None if row is None else [i for i, _ in row] for row in rows], pa.list_(pa.int64()))
    untold = [row is None or (at in silent and len(row) > 0) for at, row in enumerate(rows)]
    told = [None if un else [d for _, d in row] for row, un in zip(rows, untold, strict=True)]
    domains = pa.array(told, pa.large_list(kind))
    found = ragged_domains(items, domains, NAMES, most, "here")
    assert found[1].tolist() == ragged_keys(items, most)[1].tolist()
    at = {"find": 0, "home": 1, "gone": -1, None: -1}
    assert row_lists(found) == [
        [-1 if un else at[d] for i, d in row or [] if i is not None][-most:]
        for row, un in zip(rows, untold, strict=True)
    ]
    nobody = ragged_domains(items, pa.nulls(len(items)), NAMES, most, "here")
    assert row_lists(nobody) == [[-1] * len(row) for row in row_lists(found)]


def test_domains_are_names():
    assert holds(pa.list_(pa.string()), LIST_NAME)
    assert holds(pa.list_(pa.null()), LIST_NAME)
    assert holds(pa.null(), LIST_NAME)
    assert not holds(pa.list_(pa.int64()), LIST_NAME)
    assert not holds(pa.string(), LIST_NAME)


def test_a_bad_row_loses_its_history_and_all_that_is_said_of_it():
    table = pa.table({"past": [[1, 2], [3], [4]], "where": [["a"] * 2, [], ["a"]], "when": [[1.0], [2.0], [3.0]]})
    needs = [ColumnNeed("past", LIST_ID, HISTORY_FIELD)]
    needs += [
        ColumnNeed("where", LIST_NAME, "entities.user.history.domains", beside="past"),
        ColumnNeed("when", LIST_TIME, "entities.user.history.times", beside="past"),
    ]
    left, found = without_bad_values(table, needs)
    assert {(bad.row, bad.column) for bad in found} == {(0, "when"), (1, "where")}
    nothing = dict.fromkeys(table.column_names)
    assert left.to_pylist() == [nothing, nothing, {"past": [4], "where": ["a"], "when": [3.0]}]
    assert row_lists(ragged_domains(left["past"], left["where"], NAMES, 3, "here")) == [[], [], [-1]]
    assert row_lists(ragged_ages(left["past"], left["when"], None, 3, "here")) == [[], [], [0]]


def test_a_row_with_too_few_domains_is_a_bad_row():
    table = pa.table({"past": [[1, 2], [3]], "where": [["find"], ["home"]]})
    needs = [
        ColumnNeed("past", LIST_ID, HISTORY_FIELD),
        ColumnNeed("where", LIST_NAME, "entities.user.history.domains", beside="past"),
    ]
    left, found = without_bad_values(table, needs)
    assert [(bad.row, bad.column, bad.what) for bad in found] == [(0, "where", "not as many domains as past items")]
    assert left.to_pylist() == [{"past": None, "where": None}, {"past": [3], "where": ["home"]}]
    with pytest.raises(UserError, match="here, row 0: has not as many domains as past items"):
        ragged_domains(table["past"], table["where"], NAMES, 3, "here")
