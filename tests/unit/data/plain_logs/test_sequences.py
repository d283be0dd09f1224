"""Importing one sequence per user, from text, CSV and Parquet."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from foundrank.data.plain_logs.item_catalog import Catalog
from foundrank.data.plain_logs.sequences import import_sequences
from foundrank.model.kinds import KINDS

USERS = {"ann": "a b c d e", "bob": "b c d", "cy": "e a", "dee": "c"}
TEXT = "".join(f"{user} {items}\n" for user, items in USERS.items())
WANTED = {
    "train": [("ann", "c", ["a", "b"]), ("cy", "a", ["e"])],
    "validation": [("ann", "d", ["a", "b", "c"]), ("bob", "c", ["b"])],
    "test": [("ann", "e", ["a", "b", "c", "d"]), ("bob", "d", ["b", "c"])],
}


def rows_of(out: Path) -> dict[str, list[tuple]]:
    tables = {split: pq.read_table(out / "events/sequences" / split) for split in WANTED}
    return {
        split: [(row["user_id"], row["item_id"], row["history"]) for row in table.to_pylist()]
        for split, table in tables.items()
    }


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.txt", TEXT),
        ("log.txt", "\n" + TEXT.replace("\n", " \r\n\r\n").replace(" ", " \t ")),
        ("log.csv", TEXT.replace(" ", ", ")),
        ("log.tsv", TEXT.replace(" ", "\t").rstrip()),
    ],
)
def test_a_line_is_a_user_and_its_items(tmp_path, name, text):
    found = import_sequences(written(tmp_path / name, text), tmp_path / "out")
    assert rows_of(tmp_path / "out") == WANTED
    assert "train 2, validation 2, test 2" in found.told[-1]
    experiment = load_experiment(found.path, kinds=KINDS)
    assert {split: files.rows for split, files in check_events(experiment)["sequences"].items()} == dict.fromkeys(
        WANTED, 2
    )


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.dictionary(pa.int8(), pa.string()))]
)
def test_a_row_of_parquet_is_a_list(tmp_path, kind):
    (tmp_path / "log").mkdir()
    for number, part in enumerate((list(USERS)[:1], list(USERS)[1:])):
        lists = pa.array([USERS[user].split() for user in part], pa.list_(pa.string())).cast(kind)
        pq.write_table(pa.table({"who": part, "what": lists}), tmp_path / f"log/{number}.parquet")
    import_sequences(tmp_path / "log", tmp_path / "out", items="what", users="who")
    assert rows_of(tmp_path / "out") == WANTED


def test_ids_are_numbers_where_all_of_them_are_plain_ones(tmp_path):
    import_sequences(written(tmp_path / "a.txt", "1 7 8 9 10\n2 8 9 -10\n"), tmp_path / "a")
    assert rows_of(tmp_path / "a")["test"] == [(1, 10, [7, 8, 9]), (2, -10, [8, 9])]
    import_sequences(written(tmp_path / "b.txt", "1 7 08 9 10\n2 8 9 10\n"), tmp_path / "b")
    assert rows_of(tmp_path / "b")["test"] == [(1, "10", ["7", "08", "9"]), (2, "10", ["8", "9"])]


def test_lines_without_users_are_numbered(tmp_path):
    text = "".join(f"{items}\n" for items in USERS.values())
    import_sequences(written(tmp_path / "log.txt", text), tmp_path / "out", users=None)
    assert [row[0] for row in rows_of(tmp_path / "out")["test"]] == [0, 1]


def test_pasts_are_cut_and_longer_users_have_further_rows(tmp_path):
    log = written(tmp_path / "log.txt", "u " + " ".join(map(str, range(10))))
    found = import_sequences(log, tmp_path / "out", max_length=3)
    assert rows_of(tmp_path / "out")["train"] == [("u", 1, [0]), ("u", 4, [1, 2, 3]), ("u", 7, [4, 5, 6])]
    assert load_experiment(found.path, kinds=KINDS).entities.user.history.max_length == 3


def test_a_catalog_comes_along(tmp_path):
    log = written(tmp_path / "log.txt", TEXT)
    catalog = written(tmp_path / "cat.csv", "sku,title,price\n" + "".join(f"{i},Item {i},3\n" for i in "abcdefg"))
    found = import_sequences(log, tmp_path / "out", catalog=Catalog(catalog, "sku"))
    item = load_experiment(found.path, kinds=KINDS).entities.item
    assert (item.text, item.catalog.key) == ("{title}", "item_id")
    assert pq.read_table(tmp_path / "out/catalogs/items.parquet").column_names == ["item_id", "title", "price"]
    found = import_sequences(log, tmp_path / "other", catalog=Catalog(catalog, "sku", "{title}: {price}"))
    assert load_experiment(found.path, kinds=KINDS).entities.item.text == "{title}: {price}"


@pytest.mark.parametrize(
    ("text", "key", "template", "told"),
    [
        ("sku,title\na,x\n", "sku", None, "'sku': 4 row.* name an id that the catalog lacks"),
        ("sku,title\na,x\na,x\n", "sku", None, "holds an id twice"),
        ("sku,title\na,x\n", "skuu", None, "'skuu': is missing. Did you mean 'sku'"),
        ("sku,item_id\na,x\n", "sku", None, "is there beside the key"),
        ("", "sku", None, "cannot be read"),
        ("sku,title\n" + "".join(f"{i},x\n" for i in "abcde"), "sku", "{name}", "no column 'name' to fill it"),
    ],
)
def test_catalogs_that_do_not_fit_are_refused(tmp_path, text, key, template, told):
    log, catalog = written(tmp_path / "log.txt", TEXT), written(tmp_path / "cat.csv", text)
    with pytest.raises(UserError, match=told):
        import_sequences(log, tmp_path / "out", catalog=Catalog(catalog, key, template))
    assert not (tmp_path / "out/experiment.yaml").exists()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("log.txt", "", "holds no item"),
        ("log.txt", "\n \n", "holds no item"),
        ("log.txt", "ann\nbob\n", "holds no item"),
        ("log.csv", "ann,a,b,c\n\nbob,a,,b\n", "log.csv, line 3: has an empty id"),
        ("log.csv", "ann,a,b,c\n,a,b\n", "log.csv, line 2: has an empty id"),
        ("log.txt", "a b c d\nb c d\na c d\n", "user 'a': has 2 lines.*--no-user"),
        ("log.txt", "a b\nb c\n", "the train split: has no row"),
        ("log.txt", "a b c\nb c d\n", "the validation split: has no row"),
    ],
)
def test_malformed_files_are_refused(tmp_path, name, text, told):
    with pytest.raises(UserError, match=told):
        import_sequences(written(tmp_path / name, text), tmp_path / "out")
    assert not (tmp_path / "out/experiment.yaml").exists()


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "log.txt").write_bytes(b"ann a b \xff\xfe c\n")
    with pytest.raises(UserError, match="cannot be read as text"):
        import_sequences(tmp_path / "log.txt", tmp_path / "out")


@pytest.mark.parametrize(
    ("lists", "told"),
    [
        (pa.array([["a"], None]), "'items', row 1: has no value"),
        (pa.array([["a", None], ["b"]]), "row 1: has no value"),
        (pa.array([[0.5], [1.5]]), "is double, which is no id"),
        (pa.array(["a b", "c"]), "It must be a list"),
        (pa.array([["a", ""], ["b"]]), "is an empty string"),
    ],
)
def test_lists_that_hold_no_ids_are_refused(tmp_path, lists, told):
    pq.write_table(pa.table({"user_id": [1, 2], "items": lists}), tmp_path / "log.parquet")
    with pytest.raises(UserError, match=told):
        import_sequences(tmp_path / "log.parquet", tmp_path / "out")


def test_folders_that_are_no_log_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        import_sequences(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "log").mkdir()
    with pytest.raises(UserError, match="holds no file"):
        import_sequences(tmp_path / "log", tmp_path / "out")
    written(tmp_path / "log/a.txt", TEXT), written(tmp_path / "log/a.csv", TEXT)
    with pytest.raises(UserError, match="several kinds"):
        import_sequences(tmp_path / "log", tmp_path / "out")
    pq.write_table(pa.table({"user_id": [1], "item": [["a"]]}), tmp_path / "log.parquet")
    with pytest.raises(UserError, match=r"'items': is missing. Did you mean 'item'.*--items"):
        import_sequences(tmp_path / "log.parquet", tmp_path / "out")


def test_held_out_items_are_asked_for_in_test_alone(tmp_path):
    text = "".join(f"u{u} " + " ".join(str((u + i) % 20) for i in range(8)) + "\n" for u in range(30))
    found = import_sequences(written(tmp_path / "log.txt", text), tmp_path / "out", unseen_items=0.25)
    rows = rows_of(tmp_path / "out")
    trained = {item for _, own, past in rows["train"] for item in (own, *past)}
    assert len(trained) == 15
    assert {own for _, own, _ in rows["validation"]} <= trained
    assert {own for _, own, _ in rows["test"]} == set(range(20))
    assert "--unseen-items 0.25" in found.path.read_text()
