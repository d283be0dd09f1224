"""Bad rows under the policy ``skip``: what is left, what is counted, and where it stops."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.arrow.column_need import ColumnNeed
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.catalogs.catalog import read_catalog, read_catalog_features
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.kinds import experiment_type
from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.bad_data import BadDataConfig
from foundrank.data.config.sections.entities import Stored
from foundrank.data.content_kinds.text import Text
from foundrank.data.contents.catalog_inputs import CatalogInputs
from foundrank.data.contents.distinct_inputs import survey_inputs
from foundrank.data.counting.counting_pass import count
from foundrank.data.counting.statistics import Statistics
from foundrank.data.epoch.order import deal, ordered_chunks
from foundrank.data.epoch.reader import Reader
from foundrank.data.errors import UserError
from foundrank.data.events.bad_rows import read_events
from foundrank.data.events.check_events import check_events
from foundrank.data.events.event_files import _open_local
from foundrank.data.features.dense import Dense
from foundrank.data.schema.bad_values import without_bad_values
from foundrank.data.schema.column_needs import needed_columns
from foundrank.model.kinds import KINDS
from foundrank.model.tasks.binary import Binary
from tests.tiny_world import random_events, train_files, write_world

SKIP = BadDataConfig(policy="skip", max_share=0.5)
ROWS = {"find": 40, "home": 30, "new": 20}
NEEDS = [
    ColumnNeed("x", "number", "x"),
    *Dense(kind="dense", transform="log1p").needs("log", "log"),
    ColumnNeed("v", "vector", "v", 2),
    *Binary.model_validate({"label": "click"}).columns("click"),
    *Binary.model_validate({"label": {"column": "watched", "at_least": 30}}).columns("long"),
    *Binary.model_validate({"label": {"column": "action", "equals": "buy"}}).columns("buy"),
    ColumnNeed("id", "id", "id"),
]
GOOD = {
    "x": [None, 0.0, -3.5, 1e30],
    "log": [None, 0.0, -0.5],
    "v": [None, [1.0, 2.0]],
    "click": [None, 0.0, 1.0],
    "watched": [None, 7.5, math.nan],
    "action": [None, "buy", ""],
    "id": [None, 7],
}
BAD = {
    "x": [math.nan, math.inf, -math.inf, 1.1e30, -1e308],
    "log": [math.nan, -1.0, -7.0, 3e38],
    "v": [[], [1.0], [1.0, 2.0, 3.0], [1.0, math.nan], [math.inf, 0.0], [None, 1.0], [0.0, -1e300]],
    "click": [2.0, -1.0, 0.5, math.inf],
    "watched": [math.inf, -math.inf],
}
COLUMN_TYPES = {
    "x": pa.float64(),
    "log": pa.float32(),
    "v": pa.list_(pa.float64()),
    "click": pa.float32(),
    "watched": pa.float64(),
    "action": pa.string(),
    "id": pa.int64(),
}


def as_skipping(experiment: Experiment, **policy: object) -> Experiment:
    """The experiment with ``skip`` everywhere."""
    raw = experiment.model_dump(mode="json", exclude_none=True)
    raw["bad_data"] = {"policy": "skip", "max_share": 0.5} | policy
    for entity in raw["entities"].values():
        if "catalog" in entity:
            entity["catalog"]["bad_data"] = raw["bad_data"]
    return experiment_type(KINDS).model_validate(raw)


@settings(max_examples=80)
@given(st.data(), st.integers(0, 12), st.integers(0, 3))
def test_bad_values_and_the_labels_of_their_rows_become_missing(data, rows, cut):
    is_bad = {name: data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)) for name in BAD}
    columns = {
        name: [
            data.draw(st.sampled_from(BAD[name] if name in BAD and is_bad[name][i] else GOOD[name]))
            for i in range(rows)
        ]
        for name in GOOD
    }
    table = pa.table({name: pa.array(values, COLUMN_TYPES[name]) for name, values in columns.items()}).slice(cut)
    left, found = without_bad_values(table, NEEDS)
    wanted = {(i - cut, name) for name, flags in is_bad.items() for i, bad in enumerate(flags) if bad and i >= cut}
    assert {(bad.row, bad.column) for bad in found} == wanted
    assert len(found) == len(wanted)
    for name, values in columns.items():
        spoilt = [(i - cut, name) in wanted for i in range(cut, rows)]
        if name in ("click", "watched", "action"):
            spoilt = [any((i - cut, other) in wanted for other in BAD) for i in range(cut, rows)]
        expected = [None if bad else v for bad, v in zip(spoilt, values[cut:], strict=True)]
        assert str(left[name].to_pylist()) == str(expected)  # where NaN is itself
        assert left[name].type == COLUMN_TYPES[name]


def spoil(path: Path, column: str, row: int, value: object, group: int = 3) -> None:
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[row] = value
    at = table.column_names.index(column)
    pq.write_table(
        table.set_column(at, column, pa.array(values, table.schema.field(column).type)), path, row_group_size=group
    )
    _open_local.cache_clear()  # it may have been read before


@pytest.fixture
def world(tmp_path) -> Experiment:
    return write_world(tmp_path, random_events(1, ROWS), files=4, group=3)


def read_all(experiment: Experiment, statistics: Statistics | None = None) -> dict[str, np.ndarray]:
    """Columns of every training row, read in file order."""
    files = train_files(experiment)
    encoder = RowEncoder(experiment, statistics or count(experiment, files))
    by_position = {encoder.layout.domains.index(name): events for name, events in files.items()}
    reader = Reader(encoder, by_position, 1024, with_host=True)
    (batch,) = list(reader.batches(deal(ordered_chunks(by_position), 1, 1000)[0]))
    columns = {name: batch.host[name] for name in ("bad", "list", "list_known")}
    return columns | {name: getattr(batch, name).numpy() for name in ("labels", "label_mask", "dense", "domains")}


def test_a_bad_row_is_read_without_labels_and_all_others_as_they_were(world, tmp_path):
    before = read_all(as_skipping(world))
    assert not before["bad"].any()
    spoil(tmp_path / "find" / "part-001.parquet", "rank", 4, math.nan)  # row 14 of find: 10 rows a file
    spoil(tmp_path / "home" / "part-000.parquet", "click", 2, 3.0)  # row 2 of home
    spoil(tmp_path / "find" / "part-003.parquet", "query_vector", 0, [1.0])  # row 30 of find
    experiment = as_skipping(world)
    with pytest.raises(UserError, match=r"the value is nan|the vector has 1|the label is 3"):
        check_events(world)
    after = read_all(experiment, count(experiment, train_files(experiment)))
    bad = np.flatnonzero(after["bad"])
    assert bad.tolist() == [14, 30, 40 + 2]
    assert not after["label_mask"][bad].any()
    others = np.setdiff1d(np.arange(90), bad)
    for name in ("list", "labels", "label_mask", "domains"):
        np.testing.assert_array_equal(after[name][others], before[name][others])
    np.testing.assert_array_equal(after["list"], before["list"])  # every row is still there, in its place


def test_bad_rows_are_counted_placed_and_left_out_of_the_counts(world, tmp_path):
    clean = count(as_skipping(world), train_files(as_skipping(world)))
    path = tmp_path / "find" / "part-001.parquet"
    row = pq.read_table(path).slice(4, 1).to_pylist()[0]
    spoil(path, "rank", 4, math.inf)
    experiment = as_skipping(world)
    statistics = count(experiment, train_files(experiment))
    assert statistics.skipped.rows == {"find": 1}
    (place,) = statistics.skipped.places
    assert place == {
        "domain": "find",
        "file": str(path),
        "row_group": 1,
        "row": 1,
        "column": "rank",
        "what": "no finite number that fits",
    }
    labelled = [0 if row[task] is None else 1 for task in ("click", "buy")]
    for task, had in zip(("click", "buy"), labelled, strict=True):
        assert statistics.labels["find"][task][0] == clean.labels["find"][task][0] - had
    assert np.isfinite(statistics.dense["rank"]).all()
    statistics.save(tmp_path / "saved")
    assert pq.read_table(tmp_path / "saved" / "skipped_rows.parquet").to_pylist() == [place]
    assert Statistics.load(tmp_path / "saved").skipped.rows == {"find": 1}


def test_more_bad_rows_than_allowed_stop_the_count(world, tmp_path):
    for row in (0, 4, 9):
        spoil(tmp_path / "new" / f"part-00{row % 4}.parquet", "like", row % 5, 7)
    few, many = as_skipping(world, max_share=0.15), as_skipping(world, max_share=0.14)
    assert count(few, train_files(few)).skipped.rows == {"new": 3}
    with pytest.raises(UserError, match=r"domain 'new': 3 of 20 rows are bad, the first at .*part-000.parquet.*14.00%"):
        count(many, train_files(many))


def test_a_damaged_row_group_is_rows_without_anything(world, tmp_path):
    path = tmp_path / "home" / "part-001.parquet"
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(bytes(content))
    needs = needed_columns(world, "home")
    with pytest.raises(UserError, match="row group 0: cannot be read"):
        read_events(str(path), 0, needs, BadDataConfig())
    table, bad = read_events(str(path), 0, needs, SKIP)
    assert [one.row for one in bad] == [0, 1, 2]
    assert table.num_rows == 3
    assert all(table[need.name].null_count == 3 for need in needs)
    found = read_all(as_skipping(world))
    assert np.flatnonzero(found["bad"]).tolist() == [40 + 7, 40 + 8, 40 + 9]
    assert len(found["bad"]) == 90


def test_files_that_cannot_be_used_are_set_aside(world, tmp_path):
    truncated, mistyped = tmp_path / "find" / "part-002.parquet", tmp_path / "find" / "part-003.parquet"
    truncated.write_bytes(truncated.read_bytes()[:-50])
    table = pq.read_table(mistyped)
    at = table.column_names.index("rank")
    pq.write_table(table.set_column(at, "rank", pa.array(["high"] * table.num_rows)), mistyped)
    with pytest.raises(UserError, match=r"part-002\.parquet: cannot be read"):
        check_events(world)
    files = check_events(as_skipping(world, max_share=0.6))["find"]["train"]
    assert [Path(file).name for file in files.files] == ["part-000.parquet", "part-001.parquet"]
    assert files.rows == 20
    (first, why), (second, other) = files.set_aside
    assert (first, second) == (str(truncated), str(mistyped))
    assert "cannot be read as Parquet" in why
    assert "column 'rank': is string" in other
    with pytest.raises(UserError, match="column 'rank': is string"):  # one file may be left out, not two
        check_events(as_skipping(world, max_share=0.4))
    with pytest.raises(UserError, match=r"part-002\.parquet: cannot be read"):
        check_events(as_skipping(world, max_share=0.2))


def rewrite_items(folder: Path, change) -> None:
    path = folder / "items.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def with_extra_rows(table: pa.Table) -> pa.Table:
    """Item 2 once more, first without a key, with other words."""
    rows = table.slice(2, 1).to_pylist() * 2
    rows[0] |= {"item_id": None, "title": "nobody's"}
    rows[1] |= {"title": "second", "price": 99.0}
    return pa.concat_tables(
        [
            pa.Table.from_pylist(rows[:1], schema=table.schema),
            table,
            pa.Table.from_pylist(rows[1:], schema=table.schema),
        ]
    )


def test_the_first_row_of_a_key_counts_in_a_catalog(world, tmp_path):
    item = as_skipping(world).entities.item
    wanted = read_catalog("item", item, ["title", "price"])
    rewrite_items(tmp_path, with_extra_rows)
    assert read_catalog("item", item, ["title", "price"]).equals(wanted)
    with pytest.raises(UserError, match="is null in row 0"):
        read_catalog("item", world.entities.item, [])
    strict = as_skipping(world, max_share=0.1).entities.item
    with pytest.raises(UserError, match="2 of 10 rows are bad: keys that are null or were there before"):
        read_catalog("item", strict, [])


def test_the_first_row_of_a_key_gives_its_text(world, tmp_path):
    def index(item) -> dict:
        text = Text(text=item.text)
        with survey_inputs(CatalogInputs(Stored("item", "text"), item, text), tmp_path) as survey:
            survey.number_rows([], 100)
            blocks = [block.to_pydict() for block in survey.read_index()]
            return {
                key: row for block in blocks for key, row in zip(block["key"], block["row"], strict=True)
            }, survey.rows

    item = as_skipping(world).entities.item
    wanted = index(item)
    rewrite_items(tmp_path, with_extra_rows)
    assert index(item) == wanted
    with pytest.raises(UserError, match="is null in row 0"):
        index(world.entities.item)


def test_key_zero_is_not_taken_for_a_missing_one(world, tmp_path):
    def change(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        return pa.Table.from_pylist([rows[3] | {"item_id": None}, *rows], schema=table.schema)

    item = as_skipping(world).entities.item
    wanted = read_catalog("item", item, ["title"])
    assert 0 in wanted["item_id"].to_pylist()
    rewrite_items(tmp_path, change)
    assert read_catalog("item", item, ["title"]).equals(wanted)


def test_bad_values_of_a_catalog_are_missing_ones(world, tmp_path):
    def change(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        rows[1]["price"], rows[5]["image"] = math.nan, [1.0]
        return pa.Table.from_pylist(rows, schema=table.schema)

    rewrite_items(tmp_path, change)
    _, table = read_catalog_features("item", as_skipping(world).entities.item)
    assert table["price"][1].as_py() is None
    assert table["image"][5].as_py() is None
    with pytest.raises(UserError, match="2 of 8 rows are bad: column 'price' has no finite number"):
        read_catalog_features("item", as_skipping(world, max_share=0.2).entities.item)
    with pytest.raises(UserError, match="the value is nan"):
        RowEncoder(world, count(world, train_files(world)))


def test_a_catalog_takes_the_policy_of_its_experiment_unless_it_has_one(world, tmp_path):
    loaded = load_experiment(
        tmp_path, ["bad_data.policy=skip", "entities.user.catalog.bad_data.max_share=0.3"], kinds=KINDS
    )
    assert loaded.entities.item.catalog is not None
    assert loaded.entities.user.catalog is not None
    assert loaded.entities.item.catalog.policy == BadDataConfig(policy="skip")
    assert loaded.entities.user.catalog.policy == BadDataConfig(policy="fail", max_share=0.3)
