"""What stands beside past items: here, in which domain they were."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundrank.data.bad_data import without_bad_values
from foundrank.data.beside import ragged_domains
from foundrank.data.columns import HISTORY_FIELD, LIST_ID, LIST_NAME, ColumnNeed, holds
from foundrank.data.errors import UserError
from foundrank.data.values import ragged_keys

from .test_assemble import row_lists

NAMES = ("find", "home")
past = st.lists(st.tuples(st.none() | st.integers(0, 9), st.none() | st.sampled_from([*NAMES, "gone"])), max_size=6)


@given(st.lists(st.none() | past, max_size=6), st.integers(1, 4), st.sampled_from([pa.string(), pa.large_string()]))
def test_a_domain_for_every_id_that_is_kept(rows, most, kind):
    items = pa.array([None if row is None else [i for i, _ in row] for row in rows], pa.list_(pa.int64()))
    domains = pa.array([None if row is None else [d for _, d in row] for row in rows], pa.large_list(kind))
    found = ragged_domains(items, domains, NAMES, most, "here")
    assert found[1].tolist() == ragged_keys(items, most)[1].tolist()
    at = {"find": 0, "home": 1, "gone": -1, None: -1}
    assert row_lists(found) == [[at[d] for i, d in row or [] if i is not None][-most:] for row in rows]


def test_domains_are_names():
    assert holds(pa.list_(pa.string()), LIST_NAME)
    assert holds(pa.list_(pa.null()), LIST_NAME)
    assert holds(pa.null(), LIST_NAME)
    assert not holds(pa.list_(pa.int64()), LIST_NAME)
    assert not holds(pa.string(), LIST_NAME)


def test_a_row_with_too_few_domains_is_a_bad_row():
    table = pa.table({"past": [[1, 2], [3]], "where": [["find"], ["home"]]})
    needs = [ColumnNeed("past", LIST_ID, HISTORY_FIELD), ColumnNeed("where", LIST_NAME, "x")]
    left, found = without_bad_values(table, needs)
    assert [(bad.row, bad.column, bad.what) for bad in found] == [(0, "where", "not as many domains as past items")]
    assert left.to_pylist() == [{"past": None, "where": None}, {"past": [3], "where": ["home"]}]
    with pytest.raises(UserError, match="here, row 0: has not as many domains as past items"):
        ragged_domains(table["past"], table["where"], NAMES, 3, "here")
