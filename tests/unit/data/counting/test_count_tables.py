"""Counts that were made elsewhere, as Parquet tables, in place of foundrank's own."""

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.load import load_experiment, plain
from foundrank.data.counting import tally
from foundrank.data.counting.count_tables import find_tables, write_tables
from foundrank.data.counting.counting_pass import count, count_events, statistics_of
from foundrank.data.errors import UserError
from foundrank.model.kinds import KINDS
from tests.tiny_world import random_events, train_files, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """With numbers in buckets, past items that are learned from, and domains that have no query."""
    folder = tmp_path_factory.mktemp("world")
    events = random_events(3, {"find": 45, "home": 40, "new": 25})
    raw = plain(write_world(folder, events, files=3, group=4))
    raw["context"]["part_of_day"] = {"kind": "bucketed", "column": "hour", "boundaries": [1, 2.5]}
    raw["domains"]["find"]["features"]["place"] = {"kind": "bucketed", "column": "rank", "buckets": 5}
    raw["domains"]["find"]["tasks"]["buy"] = {"kind": "regression", "label": "rank"}
    raw["domains"]["find"]["tasks"]["click"] = {"label": "click", "list_loss": "softmax"}
    raw["model"] = {"history": {"encoder": "sasrec"}, "next_item": {"positions": "all", "negatives": 4}}
    return load_experiment(raw, kinds=KINDS), events


def of_each_row(events, *names):
    return [row for domain in names or events for row in events[domain]]


def made_elsewhere(events, folder: Path) -> Path:
    """What a slow and obvious counting finds, of each row in turn."""
    rows, find = of_each_row(events), events["find"]

    def ids(rows, name):
        return Counter(row[name] for row in rows if row[name] is not None)

    def last(rows, name, most):
        kept = ([v for v in row[name] or [] if v is not None][-most:] for row in rows)
        return Counter(v for values in kept for v in values)

    tables = {
        "id_user": ids(rows, "user"),
        "id_item": ids(rows, "item") + last(rows, "history", 3),
        "id_query": ids(find, "query"),
        "feature_intent": ids(find, "intent"),
        "feature_hour": ids(rows, "hour"),
        "feature_part_of_day": ids(rows, "hour"),
        "feature_matched": last(find, "matched", 50),
        "feature_slot": ids(of_each_row(events, "find", "home"), "slot"),
        "feature_place": ids(find, "rank"),
    }
    folder.mkdir()
    for name, counts in tables.items():
        write(folder, name, {"value": [*counts], "count": [*counts.values()]})
    numbers = {
        "clicks": [math.log1p(v) for v in ids(rows, "clicks").elements()],
        "rank": [*ids(find, "rank").elements()],
    }
    columns = {"name": [*numbers], "count": [len(of) for of in numbers.values()]}
    columns |= {"mean": [np.mean(of) for of in numbers.values()], "deviation": [np.std(of) for of in numbers.values()]}
    write(folder, "numbers", columns)
    write(folder, "rows", {"domain": [*events], "rows": [len(of) for of in events.values()]})
    return folder


def write(folder: Path, name: str, columns) -> None:
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), folder / f"{name}.parquet")


def taken(experiment, folder: Path | str):
    train = train_files(experiment)
    return count_events(experiment, train, given=find_tables(experiment, train, str(folder)))


def saved(experiment, events, folder: Path) -> dict[str, bytes]:
    statistics_of(experiment, train_files(experiment), events).save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def tables(world, tmp_path):
    return made_elsewhere(world[1], tmp_path / "tables")


def test_what_was_counted_elsewhere_gives_the_same_vocabularies_to_the_bit(world, tables, tmp_path):
    experiment, _ = world
    own = saved(experiment, count_events(experiment, train_files(experiment)), tmp_path / "own")
    found = saved(experiment, taken(experiment, tables), tmp_path / "found")
    documents = [json.loads(files.pop("statistics.json")) for files in (own, found)]
    assert len(own) > 15
    assert found == own
    (one, other) = documents
    assert {name: other["dense"].pop(name) for name in ("clicks", "rank")} == {
        name: pytest.approx(one["dense"].pop(name), rel=1e-12) for name in ("clicks", "rank")
    }
    del one["sha256"]["statistics.json"], other["sha256"]["statistics.json"]
    assert one == other


def test_only_labels_and_lists_are_read_of_the_events(world, tables, monkeypatch):
    experiment, _ = world
    read, work = set(), tally.read_events

    def noted(path, group, needs, policy):
        read.update(need.name for need in needs)
        return work(path, group, needs, policy)

    monkeypatch.setattr(tally, "read_events", noted)
    taken(experiment, tables)
    assert read == {"click", "rank", "row", "like"}


def test_what_is_written_gives_the_same_files_when_it_is_read(world, tmp_path):
    experiment, _ = world
    events = count_events(experiment, train_files(experiment))
    own = saved(experiment, events, tmp_path / "own")
    rows = {name: files.rows for name, files in train_files(experiment).items()}
    write_tables(tmp_path / "tables", events.ids, events.dense, rows)
    again = taken(experiment, tmp_path / "tables")
    assert saved(experiment, again, tmp_path / "again") == own
    write_tables(tmp_path / "twice", again.ids, again.dense, rows)
    for path in (tmp_path / "tables").iterdir():
        assert (tmp_path / "twice" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_table_may_be_a_folder_of_parts_with_other_files_beside_them(world, tables):
    experiment, _ = world
    expected = count(experiment, train_files(experiment)).tables["id_user"].counts.tolist()
    table = pq.read_table(tables / "id_user.parquet")
    (tables / "id_user.parquet").unlink()
    (tables / "id_user.parquet").mkdir()
    (tables / "id_user.parquet" / "_SUCCESS").touch()
    (tables / "README.txt").touch()
    strings = table.set_column(0, "value", table["value"].cast(pa.large_string()))
    write(tables / "id_user.parquet", "part-1", table.slice(0, 3).append_column("more", pa.array([1, 2, 3])))
    write(tables / "id_user.parquet", "part-2", strings.slice(3))
    for where in (tables, f"file://{tables}"):
        statistics = statistics_of(experiment, train_files(experiment), taken(experiment, where))
        assert statistics.tables["id_user"].counts.tolist() == expected


def test_a_dense_feature_without_a_value_has_no_mean(world, tables):
    experiment, _ = world
    columns = {"name": ["rank", "clicks"], "count": [0, 7], "mean": [None, 2.0], "deviation": [None, 1e-12]}
    write(tables, "numbers", columns)
    dense = statistics_of(experiment, train_files(experiment), taken(experiment, tables)).dense
    assert (dense["rank"], dense["clicks"]) == ((0.0, 1.0), (2.0, 1.0))  # all but the same


IDS = pa.array(["u1", "u2"])
WRONG = {
    "a table that is missing": ("id_query", None, "is missing: how often the training events have each value of column 'query'"),
    "numbers that are missing": ("numbers", None, "is missing: mean and deviation of clicks, rank in the training events"),
    "a table of no feature": ("id_users", {"value": [1], "count": [1]}, "takes. Did you mean 'id_user'"),
    "a catalog's feature": ("feature_brand", {"value": [1], "count": [1]}, "is no table that this experiment takes"),
    "no column": ("id_user", {"user": IDS, "count": [1, 2]}, "has no column 'value'. Its columns are value and count"),
    "no count": ("id_user", {"value": IDS, "n": [1, 2]}, "has no column 'count'"),
    "integers for strings": ("id_user", {"value": [1, 2], "count": [1, 2]}, "int64, where strings, as in the events"),
    "numbers for ids": ("feature_hour", {"value": [1.0, 2], "count": [1, 2]}, "double, where integers, as in the events"),
    "strings for numbers": ("feature_place", {"value": IDS, "count": [1, 2]}, "string, where numbers are expected"),
    "counts that are floats": ("id_user", {"value": IDS, "count": [1.0, 2]}, "CAST(count(*) AS BIGINT)"),
    "an id twice": ("id_user", {"value": ["u1", "u1"], "count": [1, 2]}, "has 'u1' more than once"),
    "a null": ("id_user", {"value": ["u1", None], "count": [1, 2]}, "column 'value', row 1: is null"),
    "a count that is null": ("id_user", {"value": IDS, "count": [None, 2]}, "column 'count', row 0: is null"),
    "a count below 0": ("id_user", {"value": IDS, "count": [3, -2]}, "column 'count', row 1: is -2"),
    "a count too large": ("id_user", {"value": IDS, "count": pa.array([1, 2**63 + 1], pa.uint64())}, "row 1: is 9223372036854775809"),
    "the row of no key": ("id_query", {"key": pa.array([0], pa.uint64()), "count": [1]}, "none of this table's"),
    "a number that is none": ("feature_place", {"value": [0.5, math.nan], "count": [3, 2]}, "row 1: is nan"),
    "keys and values": ("id_user", {"value": IDS, "key": pa.array([1, 2], pa.uint64()), "count": [1, 2]}, "has both"),
    "keys with a sign": ("id_user", {"key": [1, 2], "count": [1, 2]}, "is int64, where integers of 64 bits without a sign"),
    "keys that no row has": ("id_query", {"key": pa.array([8], pa.uint64()), "count": [1]}, "which has 8 rows"),
    "keys beyond all rows": ("id_query", {"key": pa.array([2**64 - 1], pa.uint64()), "count": [1]}, "which has 8 rows"),
    "keys of no bucket": ("feature_part_of_day", {"key": pa.array([3], pa.uint64()), "count": [1]}, "none of this table's"),
    "a key twice": ("id_user", {"key": pa.array([5, 5], pa.uint64()), "count": [1, 2]}, "has 5 more than once"),
    "other events": ("rows", {"domain": ["find", "home", "new"], "rows": [45, 39, 25]}, "'home': 39 rows were counted, and"),
    "a domain of none": ("rows", {"domain": ["find", "home"], "rows": [45, 40]}, "'new': no rows were counted"),
    "another domain": ("rows", {"domain": ["find", "home", "new", "x"], "rows": [45, 40, 25, 1]}, "'x': is none of"),
    "another feature": (
        "numbers", {"name": ["clicks", "rank", "age"], "count": [1] * 3, "mean": [1.0] * 3, "deviation": [1.0] * 3},
        "'age': is no dense feature of the events",
    ),
    "a feature that is missing": (
        "numbers", {"name": ["rank"], "count": [1], "mean": [1.0], "deviation": [1.0]}, "'clicks': is missing",
    ),
    "a mean that is null": (
        "numbers", {"name": ["rank", "clicks"], "count": [1, 1], "mean": [None, 1.0], "deviation": [1.0, 1.0]},
        "'rank': mean and deviation are nan and 1.0",
    ),
    "a deviation below 0": (
        "numbers", {"name": ["rank", "clicks"], "count": [1, 1], "mean": [1.0, 1.0], "deviation": [1.0, -1.0]},
        "'clicks': mean and deviation are 1.0 and -1.0",
    ),
    "a mean that is no number": (
        "numbers", {"name": ["rank", "clicks"], "count": [1, 1], "mean": [math.inf, 1.0], "deviation": [1.0, 1.0]},
        "column 'mean', row 0: is inf",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_tables_that_are_wrong_are_refused_by_name(world, tables, case):
    name, columns, told = WRONG[case]
    if columns is None:
        (tables / f"{name}.parquet").unlink()
    else:
        write(tables, name, columns)
    with pytest.raises(UserError) as error:
        taken(world[0], tables)
    assert str(tables / f"{name}.parquet") in str(error.value)
    assert told in str(error.value)


@pytest.mark.parametrize(("said", "fits"), [(None, True), ("rows of 7 buckets", True), ("rows of 70 buckets", False)])
def test_keys_of_other_settings_are_refused(world, tables, said, fits):
    table = pa.table({"key": pa.array([3], pa.uint64()), "count": [1]})
    table = table.replace_schema_metadata(None if said is None else {"foundrank.keys": said})
    pq.write_table(table, tables / "id_query.parquet")
    if fits:
        assert taken(world[0], tables).ids["id_query"].table().counts[np.array([3])] == [1]
    else:
        with pytest.raises(UserError, match="holds rows of 70 buckets, and the experiment asks for rows of 7 buckets"):
            taken(world[0], tables)


def test_a_damaged_table_a_folder_that_is_none_and_bad_rows_are_refused(world, tables, tmp_path):
    experiment, _ = world
    whole = (tables / "id_item.parquet").read_bytes()
    (tables / "id_item.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"id_item.parquet: cannot be read as Parquet"):
        taken(experiment, tables)
    with pytest.raises(UserError, match="none: does not exist"):
        taken(experiment, tmp_path / "none")
    with pytest.raises(UserError, match="is no folder"):
        taken(experiment, tables / "rows.parquet")
    shutil.rmtree(tables)
    skipping = load_experiment(plain(experiment) | {"bad_data": {"policy": "skip"}}, kinds=KINDS)
    with pytest.raises(UserError, match="knows nothing of them"):
        taken(skipping, tables)
