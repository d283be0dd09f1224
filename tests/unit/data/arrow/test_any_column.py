"""Columns of any of Arrow's types, in events and in catalogs: the right value, or a mistake that is told."""

import datetime
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundrank.data.arrow.beside_history import ragged_domains
from foundrank.data.arrow.column_need import ColumnNeed
from foundrank.data.arrow.column_types import (
    LABEL,
    LIST_ID,
    LIST_NAME,
    LIST_TIME,
    NUMBER,
    SCALAR_ID,
    TEXT,
    TIME,
    VECTOR,
    holds,
    id_family,
)
from foundrank.data.arrow.ids import id_keys
from foundrank.data.arrow.times import ragged_ages, seconds
from foundrank.data.arrow.values import floats, numbers, ragged_keys, vector_rows
from foundrank.data.catalogs.catalog import read_catalog, read_catalog_features
from foundrank.data.catalogs.catalog_files import check_catalog
from foundrank.data.config.kinds import with_kinds
from foundrank.data.config.sections.bad_data import BadDataConfig
from foundrank.data.config.sections.entities import EntityConfig, Stored
from foundrank.data.content_kinds.content import Embedded
from foundrank.data.contents.catalog_inputs import CatalogInputs
from foundrank.data.errors import UserError
from foundrank.data.events.bad_rows import read_events
from foundrank.data.events.event_files import check_columns, list_events
from foundrank.data.schema.bad_values import without_bad_values
from foundrank.data.schema.column_needs import HISTORY_FIELD
from foundrank.model.kinds import KINDS as OF_FOUNDRANK
from foundrank.model.tasks.binary import Binary, bad_labels

from ....arrow_columns import array_of, drawn_columns, written

ROWS, SIZE = 4, 2
FAIL = BadDataConfig()


def labels(column: pa.ChunkedArray) -> np.ndarray:
    if bad_labels(column.combine_chunks()) is not None:
        raise UserError("x", "a label", "")
    return floats(column)


def items_for(column: pa.ChunkedArray) -> pa.Array:
    """As many past items as a list column has entries."""
    return pa.array([None if row is None else [1] * len(row) for row in column.to_pylist()], pa.list_(pa.int64()))


# How each use reads its column.
READERS: dict[str, Callable[[pa.ChunkedArray], Any]] = {
    SCALAR_ID: id_keys,
    LIST_ID: lambda column: ragged_keys(column, 2),
    NUMBER: lambda column: numbers(column, "x"),
    LABEL: labels,
    VECTOR: lambda column: vector_rows(column, SIZE, "x"),
    TIME: lambda column: seconds(column),
    LIST_TIME: lambda column: ragged_ages(items_for(column), column, None, 2, "x"),
    LIST_NAME: lambda column: ragged_domains(items_for(column), column, ("home", "a"), 2, "x"),
}


def plain_value(wanted: str, value: Any) -> Any:
    """A Python value of a column as what it stands for."""
    if value is None:
        return None
    if isinstance(value, list):
        return [plain_value(wanted, one) for one in value]
    if wanted in (TIME, LIST_TIME) and isinstance(value, datetime.date):
        at = value if isinstance(value, datetime.datetime) else datetime.datetime.combine(value, datetime.time())
        return at.replace(tzinfo=at.tzinfo or datetime.UTC).timestamp()
    if wanted in (SCALAR_ID, LIST_ID, LIST_NAME):
        return value if isinstance(value, str) else int(value)
    return float(value)


def plain_column(wanted: str, kind: pa.DataType, values: list) -> pa.Array:
    """The same values in one of the plainest types."""
    if wanted in (SCALAR_ID, LIST_ID, LIST_NAME):
        one = pa.string() if id_family(kind) == "string" else pa.uint64() if "uint64" in str(kind) else pa.int64()
    else:
        one = pa.float64()
    return pa.array(
        [plain_value(wanted, v) for v in values],
        pa.list_(one) if wanted in (LIST_ID, LIST_TIME, LIST_NAME, VECTOR) else one,
    )


def outcome(read: Callable[..., Any], *arguments: Any) -> Any:
    """What a reader gives as plain lists, or that it told a mistake."""
    try:
        found = read(*arguments)
    except UserError:
        return "told"
    return [np.asarray(part).tolist() for part in (found if isinstance(found, tuple) else (found,))]


def same(found: Any, wanted: Any) -> None:
    np.testing.assert_equal(found, wanted)  # in which NaN is NaN


def drawn(wanted: str) -> st.SearchStrategy:
    """Any column, and more often one that should do."""
    every = drawn_columns(ROWS)
    return every | every.filter(lambda column: holds(column[0], wanted, SIZE))


@pytest.fixture
def new_file(tmp_path: Path) -> Callable[[], Path]:
    """The path of another file each time, for files stay open."""
    numbers = itertools.count()
    return lambda: tmp_path / f"{next(numbers)}.parquet"


EVERY_TYPE = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("wanted", READERS)
@EVERY_TYPE
@given(data=st.data())
def test_a_column_of_events(wanted, data, new_file):
    kind, values = data.draw(drawn(wanted))
    array, path = array_of(kind, values), new_file()
    pq.write_table(pa.table({"x": array}), path)
    needs = [ColumnNeed("x", wanted, HISTORY_FIELD if wanted == LIST_ID else "field", SIZE)]
    if wanted == LABEL:  # the kind of its task says which are bad
        needs = Binary(label="x").columns("field")
    events = list_events(str(path), "events", FAIL)
    kind = pq.read_schema(path).field("x").type  # what it was written as may be kept or not
    if not holds(kind, wanted, SIZE):
        with pytest.raises(UserError, match=r"parquet: column 'x': is .*; .* takes "):
            check_columns(events, needs, FAIL)
        return
    check_columns(events, needs, FAIL)
    table, _ = read_events(str(path), 0, needs, FAIL)
    plain = pa.table({"x": plain_column(wanted, kind, written(array))})
    same(outcome(READERS[wanted], table["x"]), outcome(READERS[wanted], plain["x"]))
    rows = pa.array([2, None, 0])
    same(outcome(READERS[wanted], table["x"].take(rows)), outcome(READERS[wanted], plain["x"].take(rows)))
    if wanted not in (LIST_TIME, LIST_NAME):  # which are bad beside a history that is not as long
        left, found = without_bad_values(table, needs)
        plain_left, plain_found = without_bad_values(plain, needs)
        assert [bad.row for bad in found] == [bad.row for bad in plain_found]
        same(outcome(READERS[wanted], left["x"]), outcome(READERS[wanted], plain_left["x"]))
        assert outcome(READERS[wanted], left["x"]) != "told"


ENTITY = with_kinds(EntityConfig, OF_FOUNDRANK)
KINDS = {"categorical": SCALAR_ID, "list": LIST_ID, "dense": NUMBER, "vector": VECTOR}


@pytest.mark.parametrize("feature", KINDS)
@EVERY_TYPE
@given(data=st.data())
def test_a_feature_of_a_catalog(feature, data, new_file):
    wanted = KINDS[feature]
    kind, values = data.draw(drawn(wanted))
    array, path = array_of(kind, values), new_file()
    pq.write_table(pa.table({"id": range(ROWS), "x": array}), path)
    config = {"kind": feature} | ({"size": SIZE} if feature == "vector" else {})
    entity = ENTITY.model_validate(
        {"id": "item", "catalog": {"path": str(path), "key": "id"}, "features": {"x": config}}
    )
    kind = pq.read_schema(path).field("x").type
    if not holds(kind, wanted, SIZE):
        for read in (check_catalog, read_catalog_features):
            with pytest.raises(UserError, match=r"parquet: column 'x': is .*; entities.item.features.x takes "):
                read("item", entity)
        return
    check_catalog("item", entity)
    _, table = read_catalog_features("item", entity)
    plain = plain_column(wanted, kind, written(array))
    same(outcome(READERS[wanted], table["x"]), outcome(READERS[wanted], pa.chunked_array([plain])))


@EVERY_TYPE
@given(data=st.data())
def test_the_key_of_a_catalog(data, new_file):
    kind, values = data.draw(drawn(SCALAR_ID))
    array, path = array_of(kind, values), new_file()
    pq.write_table(pa.table({"id": array}), path)
    entity = ENTITY.model_validate(
        {"id": "item", "catalog": {"path": str(path), "key": "id", "bad_data": {"policy": "skip", "max_share": 0.9}}}
    )
    kind = pq.read_schema(path).field("id").type
    if not holds(kind, SCALAR_ID):
        with pytest.raises(UserError, match=r"column 'id': is .*; entities.item.catalog.key takes integers or strings"):
            read_catalog("item", entity, [])
        return
    given_keys = list(dict.fromkeys(plain_value(SCALAR_ID, v) for v in written(array) if v is not None))
    if ROWS - len(given_keys) > 0.9 * ROWS:
        with pytest.raises(UserError, match="4 of 4 rows are bad"):
            read_catalog("item", entity, [])
        return
    assert read_catalog("item", entity, [])["id"].to_pylist() == given_keys


@EVERY_TYPE
@given(data=st.data())
def test_a_text_of_a_catalog(data, new_file):
    kind, values = data.draw(drawn(TEXT))
    array, path = array_of(kind, values), new_file()
    pq.write_table(pa.table({"id": range(ROWS), "x": array}), path)
    entity = ENTITY.model_validate({"id": "item", "catalog": {"path": str(path), "key": "id"}, "text": "{x}"})
    content = entity.every_content()["text"]
    assert isinstance(content, Embedded)
    inputs, kind = CatalogInputs(Stored("item", "text"), entity, content), pq.read_schema(path).field("x").type
    if not holds(kind, TEXT):
        with pytest.raises(UserError, match=r"column 'x': is .*; entities.item.text takes strings, numbers"):
            list(inputs.scan())
        return
    values = [value if isinstance(value, list) else [value] for value in written(array)]
    if any(one == b"\xff" for value in values for one in value):
        with pytest.raises(UserError, match="column 'x' is not UTF-8 in row"):
            list(inputs.scan())
        return
    ((_, texts),) = inputs.scan()
    for text, value in zip(texts.to_pylist(), values, strict=True):
        words = [one.decode() if isinstance(one, bytes) else one for one in value if one is not None]
        if all(isinstance(one, str | int) and not isinstance(one, bool) for one in words):
            assert text == (", ".join(map(str, words)).strip() or None)
