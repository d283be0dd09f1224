"""Importing a table of interactions: the next item, and labels."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from foundrank.data.plain_logs.interactions import Columns, import_interactions
from foundrank.data.plain_logs.item_catalog import Catalog
from foundrank.model.kinds import KINDS

SPLITS = ("train", "validation", "test")
PLAIN, RATED = Columns(), Columns(rating="rating", liked_from=4)


def log(rows: int = 600, seed: int = 1) -> pa.Table:
    """Rows in no order of time, of which many share one."""
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "user_id": random.integers(0, 20, rows),
            "item_id": [f"i{item}" for item in random.integers(0, 25, rows)],
            "timestamp": random.integers(0, rows // 2, rows),
            "rating": random.integers(1, 6, rows),
        }
    )


def parquet(folder: Path, table: pa.Table, name: str = "log.parquet") -> Path:
    pq.write_table(table, folder / name)
    return folder / name


def rows_of(out: Path) -> dict[str, list[dict]]:
    return {split: pq.read_table(out / "events/interactions" / split).to_pylist() for split in SPLITS}


@pytest.mark.parametrize("columns", [PLAIN, RATED], ids=["next item", "labels"])
@pytest.mark.parametrize("split", ["temporal", "leave-one-out"])
def test_histories_hold_what_was_strictly_before(tmp_path, columns, split):
    table = log()
    found = import_interactions(parquet(tmp_path, table), tmp_path / "out", columns=columns, split=split, max_length=5)
    check_events(load_experiment(found.path, kinds=KINDS))
    source = sorted(table.to_pylist(), key=lambda row: row["timestamp"])
    for name, rows in rows_of(tmp_path / "out").items():
        assert rows
        for row in rows:
            before = [
                one
                for one in source
                if one["user_id"] == row["user_id"]
                and one["timestamp"] < row["timestamp"]
                and (columns is PLAIN or one["rating"] >= 4)
            ]
            distinct = list(dict.fromkeys((one["timestamp"], one["item_id"]) for one in before))
            if columns is PLAIN:
                assert row["history"] == [item for _, item in distinct][-5:]
            else:
                assert row["liked"] == (row["rating"] >= 4)
                assert row["history"] == [one["item_id"] for one in before][-5:]
        if split == "temporal" and name != "train":
            assert max(row["timestamp"] for row in rows_of(tmp_path / "out")["train"]) < min(
                r["timestamp"] for r in rows
            )


def test_every_row_is_an_example_of_a_label(tmp_path):
    table = log()
    import_interactions(parquet(tmp_path, table), tmp_path / "out", columns=RATED)
    rows = [row for of_split in rows_of(tmp_path / "out").values() for row in of_split]
    keys = [tuple(row[name] for name in table.column_names) for row in rows]
    assert sorted(keys) == sorted({tuple(row.values()) for row in table.to_pylist()})


@pytest.mark.parametrize("kind", ["csv", "tsv", "strings", "dates", "nanoseconds", "decimals"])
def test_a_log_says_the_same_in_other_forms(tmp_path, kind):
    table = log(300)
    days = [datetime(2020, 1, 1) + timedelta(days=int(day)) for day in table["timestamp"].to_pylist()]
    days = pa.array(days, pa.timestamp("us"))
    other = {
        "csv": days,
        "tsv": days,
        "strings": days.cast(pa.string()),
        "dates": days.cast(pa.date32()),
        "nanoseconds": days.cast(pa.timestamp("ns")),
        "decimals": days,
    }[kind]
    plain, changed = table.set_column(2, "timestamp", days), table.set_column(2, "timestamp", other)
    if kind == "decimals":
        changed = changed.set_column(0, "user_id", table["user_id"].cast(pa.int16()).dictionary_encode())
    if kind in ("csv", "tsv"):
        source = tmp_path / f"log.{kind}"
        pc_csv.write_csv(changed, source, pc_csv.WriteOptions(delimiter="," if kind == "csv" else "\t"))
    else:
        source = parquet(tmp_path, changed)
    for name, given in (("one", parquet(tmp_path, plain, "plain.parquet")), ("two", source)):
        import_interactions(given, tmp_path / name, columns=PLAIN)
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "two")


def as_csv(file: Path, table: pa.Table) -> Path:
    pc_csv.write_csv(table, file, pc_csv.WriteOptions(quoting_style="none"))
    return file


def test_ids_with_leading_zeros_are_other_ids_in_csv(tmp_path):
    digits = [f"{number:03d}" if number % 2 else str(number % 10) for number in range(20)]  # 7 and 007 among them
    plain = log()
    ids = (
        [digits[user] for user in plain["user_id"].to_pylist()],
        [f"0{item[1:]}" for item in plain["item_id"].to_pylist()],
    )
    table = plain.set_column(0, "user_id", [ids[0]]).set_column(1, "item_id", [ids[1]])
    catalog = pa.table({"item_id": sorted(set(ids[1])), "title": ["x"] * len(set(ids[1]))})
    import_interactions(
        as_csv(tmp_path / "log.csv", table),
        tmp_path / "out",
        columns=RATED,
        catalog=Catalog(as_csv(tmp_path / "items.csv", catalog)),
    )
    rows = [row for of_split in rows_of(tmp_path / "out").values() for row in of_split]
    assert {row["user_id"] for row in rows} == set(ids[0])
    assert {row["item_id"] for row in rows} == set(ids[1])


@pytest.mark.parametrize("keys", ["csv", "parquet"])
def test_whole_numbers_in_csv_are_integers_in_events_and_catalog(tmp_path, keys):
    table = log().set_column(1, "item_id", pa.array(range(600)))
    catalog = pa.table({"item_id": range(600), "title": ["x"] * 600})
    items = as_csv(tmp_path / "items.csv", catalog) if keys == "csv" else parquet(tmp_path, catalog, "items.parquet")
    import_interactions(as_csv(tmp_path / "log.csv", table), tmp_path / "out", columns=RATED, catalog=Catalog(items))
    for file in ("events/interactions/train", "catalogs/items.parquet"):
        assert pq.read_table(tmp_path / "out" / file).schema.field("item_id").type == pa.int64()


def test_columns_have_the_names_that_the_user_has(tmp_path):
    table = log().rename_columns(["who?", "what", "when it was", "stars"])
    names = Columns("who?", "what", "when it was", rating="stars", liked_from=4)
    found = import_interactions(parquet(tmp_path, table), tmp_path / "out", columns=names)
    experiment = load_experiment(found.path, kinds=KINDS)
    assert (experiment.entities.user.id, experiment.domains["interactions"].time) == ("who?", "when it was")
    check_events(experiment)


def test_rows_that_are_equal_count_once(tmp_path):
    table = log()
    import_interactions(parquet(tmp_path, table), tmp_path / "once", columns=RATED)
    twice = parquet(tmp_path, pa.concat_tables([table, table]), "twice.parquet")
    found = import_interactions(twice, tmp_path / "twice", columns=RATED)
    assert rows_of(tmp_path / "once") == rows_of(tmp_path / "twice")
    distinct = {tuple(row.values()) for row in table.to_pylist()}
    assert f"left out {1200 - len(distinct):,} rows" in found.told[0]


def test_a_label_may_be_unknown(tmp_path):
    label = pa.array([None if i % 7 == 0 else i % 3 == 0 for i in range(600)])
    table = log().set_column(3, "click", label)
    found = import_interactions(parquet(tmp_path, table), tmp_path / "out", columns=Columns(label="click"))
    assert "click" in load_experiment(found.path, kinds=KINDS).domains["interactions"].tasks
    assert {row["click"] for row in rows_of(tmp_path / "out")["test"]} == {0, 1, None}


def test_held_out_items_are_labelled_in_test_alone(tmp_path):
    import_interactions(parquet(tmp_path, log()), tmp_path / "out", columns=RATED, unseen_items=0.2)
    rows = rows_of(tmp_path / "out")
    known = {split: {row["item_id"] for row in of} for split, of in rows.items()}
    unseen = known["test"] - known["train"]
    assert len(unseen) == 5
    assert not unseen & known["validation"]
    assert not unseen & {item for row in rows["train"] for item in row["history"]}


@pytest.mark.parametrize(
    ("change", "columns", "told"),
    [
        ({"user_id": None}, PLAIN, "'user_id': is missing.*--user"),
        ({"rating": None}, RATED, "'rating': is missing.*--rating"),
        ({"user_id": pa.array([0.5] * 600)}, PLAIN, "'user_id': is double, which is no id"),
        ({"user_id": pa.array([None] + [1] * 599)}, PLAIN, "'user_id', row 0: has no value"),
        ({"item_id": pa.array(["a", ""] * 300)}, PLAIN, "'item_id', row 1: is an empty string"),
        ({"timestamp": pa.array([1.0, float("nan")] * 300)}, PLAIN, "'timestamp', row 1: has no value"),
        ({"timestamp": pa.array(["soon"] * 600)}, PLAIN, "'timestamp': is no time"),
        ({"timestamp": pa.array([True] * 600)}, PLAIN, "'timestamp': is bool"),
        ({"timestamp": pa.array([1] * 600)}, PLAIN, "the train split: has no row"),
        ({"rating": pa.array([3] * 600)}, Columns(label="rating"), "'rating', row 0: holds 3"),
        ({"rating": pa.array(["x"] * 600)}, Columns(label="rating"), "'rating': is string"),
        ({"rating": pa.array(["x"] * 600)}, RATED, "'rating': is string"),
        ({"rating": pa.array([3] * 600)}, RATED, "the train split: has not both labels in 'liked'"),
        ({}, Columns(rating="rating"), "--rating and --liked-from: go together"),
        ({}, Columns(rating="rating", liked_from=3, label="rating"), "are both given"),
        ({}, Columns(user="item_id"), "'item_id': is named for two things"),
        ({"history": pa.array([1] * 600)}, Columns(user="history"), "has the name of a column that is made"),
    ],
)
def test_logs_that_do_not_fit_are_refused(tmp_path, change, columns, told):
    held = {name: column for name, column in zip(log().column_names, log().columns, strict=True)} | change
    table = pa.table({name: column for name, column in held.items() if column is not None})
    with pytest.raises(UserError, match=told):
        import_interactions(parquet(tmp_path, table), tmp_path / "out", columns=columns)
    assert not (tmp_path / "out/experiment.yaml").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "cannot be read"),
        ("user_id,item_id,timestamp\n", "has no row"),
        ("user_id,item_id,timestamp\n1,2,3\n1,2\n", "Expected 3 columns, got 2"),
        ("user_id,item_id,timestamp,item_id\n1,2,3,4\n", "'item_id': is there twice"),
        ("user_id,item_id,timestamp\n1,2,3\n1,,3\n", "'item_id', row 1: is an empty string"),
        ("user_id,item_id,timestamp\n1,2,3\nNA,2,3\n", "'user_id', row 1: holds 'NA' among whole numbers"),
    ],
)
def test_malformed_csv_is_refused(tmp_path, text, told):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(UserError, match=told):
        import_interactions(tmp_path / "log.csv", tmp_path / "out", columns=PLAIN)
