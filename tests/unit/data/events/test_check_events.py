import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.load import load_experiment, plain
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from foundrank.data.events.event_files import _open_local, read_group
from foundrank.model.kinds import KINDS
from tests.tiny_world import SCHEMAS, random_events, write_world

ROWS = {"find": 12, "home": 10, "new": 8}


@pytest.fixture
def world(tmp_path):
    return write_world(tmp_path, random_events(0, ROWS), files=2, group=3)


def told(experiment, folder: Path) -> str:
    with pytest.raises(UserError) as error:
        check_events(experiment)
    return str(error.value).replace(str(folder) + "/", "")


def change(path: Path, column: str, values) -> None:
    """Replaces a column of a file, keeping its row groups of 3."""
    table = pq.read_table(path)
    at = table.column_names.index(column)
    pq.write_table(table.set_column(at, column, values), path, row_group_size=3)


def test_good_data_passes(world):
    events = check_events(world)
    assert {name: set(splits) for name, splits in events.items()} == {
        "find": {"train", "test"},
        "home": {"train"},
        "new": {"train"},
    }
    assert {name: splits["train"].rows for name, splits in events.items()} == ROWS
    assert events["find"]["train"].group_rows == ((3, 3), (3, 3))
    assert set(check_events(world, ["test"])["home"]) == set()


def test_a_missing_column_gets_the_nearest_one(world, tmp_path):
    path = tmp_path / "home" / "part-001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.rename_columns(["histories" if n == "history" else n for n in table.column_names]), path)
    message = told(world, tmp_path)
    assert message.startswith("home/part-001.parquet: column 'history': is missing")
    assert "entities.user.history asks for it. Did you mean 'histories'?" in message


@pytest.mark.parametrize(
    ("domain", "column", "values", "words"),
    [
        ("new", "user", pa.array([1.5] * 4), "is double; entities.user.id takes integers or strings"),
        ("new", "history", pa.array([1] * 4), "is int64; entities.user.history takes lists of integers or strings"),
        ("new", "clicks", pa.array(["a"] * 4), "is string; entities.user.features.clicks takes numbers"),
        ("new", "like", pa.array(["yes"] * 4), "is string; domains.new.tasks.like.label takes numbers or booleans"),
        ("home", "picture", pa.array([[1]] * 5), "domains.home.features.picture takes lists of floats of length 2"),
        ("home", "picture", pa.array([[1.0] * 3] * 5, pa.list_(pa.float32(), 3)), "takes lists of floats of length 2"),
    ],
)
def test_a_wrong_type_is_named(world, tmp_path, domain, column, values, words):
    change(tmp_path / domain / "part-000.parquet", column, values)
    message = told(world, tmp_path)
    assert message.startswith(f"{domain}/part-000.parquet: column '{column}': ")
    assert words in message


def test_no_file_matches(world, tmp_path):
    for file in (tmp_path / "home").iterdir():
        file.rename(file.with_suffix(".txt"))
    assert told(world, tmp_path).startswith("domains.home.events.train: no file matches 'home/*.parquet'")


@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
def test_a_truncated_file_is_named(world, tmp_path, keep):
    path = tmp_path / "find" / "part-001.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    message = told(world, tmp_path)
    assert message.startswith("find/part-001.parquet: cannot be read as Parquet")
    assert "truncated" in message


def test_a_damaged_row_group_is_named(world, tmp_path):
    path = tmp_path / "home" / "part-000.parquet"
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196  # pages of the first row group; the footer, at the end, stays whole
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"part-000.parquet: row group 0: cannot be read"):
        read_group(str(path), 0, SCHEMAS["home"].names)


def test_a_domain_without_training_rows(tmp_path):
    experiment = write_world(tmp_path, random_events(0, {**ROWS, "new": 0}))
    assert told(experiment, tmp_path).startswith("domains.new.events.train: the 1 file(s) matching")


@pytest.mark.parametrize(
    ("values", "row", "group", "shown"),
    [
        (pa.array([0, 1, 1, 0, 2], pa.int8()), 1, 1, "2"),
        (pa.array([0, -1, 1, 0, None], pa.int64()), 1, 0, "-1"),
        (pa.array([0, 1, 1, 2**60, 0], pa.int64()), 0, 1, "1.15292e+18"),
        (pa.array([0.0, 1.0, 0.5, 0.0, 1.0]), 2, 0, "0.5"),
        (pa.array([math.nan, None, 1.0, 0.0, -1.0], pa.float32()), 1, 1, "-1"),
        (pa.array([0.0, math.inf, 1.0, 0.0, 1.0]), 1, 0, "inf"),
    ],
)
def test_a_label_outside_0_and_1(world, tmp_path, values, row, group, shown):
    change(tmp_path / "home" / "part-001.parquet", "click", values)
    message = told(world, tmp_path)
    where = f"home/part-001.parquet: column 'click', row {row} of row group {group}: the label is {shown}."
    assert message.startswith(where)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([math.nan, None, 1.0, 0.0, -0.0]),
        pa.array([True, False, None, True, True]),
        pa.array([1, None, 1, None, 0], pa.uint8()),
        pa.nulls(5),
        pa.nulls(5, pa.int64()),
    ],
)
def test_labels_may_be_null_or_nan(world, tmp_path, values):
    change(tmp_path / "home" / "part-001.parquet", "click", values)
    check_events(world)


def test_a_label_by_a_condition_may_be_any_finite_number_or_string(world, tmp_path):
    raw = plain(world)
    raw["domains"]["find"]["tasks"]["buy"]["label"] = {"column": "rank", "at_least": 0.5}
    raw["domains"]["find"]["tasks"]["click"]["label"] = {"column": "slot", "one_of": ["s1", "s2"]}
    world = load_experiment(raw, kinds=KINDS)
    check_events(world)
    _open_local.cache_clear()
    change(tmp_path / "find" / "part-001.parquet", "rank", pa.array([0.0, 7.5, None, math.nan, math.inf, 0.5]))
    message = told(world, tmp_path)
    assert message.startswith("find/part-001.parquet: column 'rank', row 1 of row group 1: the label is inf.")
    raw["domains"]["find"]["tasks"]["buy"]["label"] = {"column": "rank", "equals": "high"}
    message = told(load_experiment(raw, kinds=KINDS), tmp_path)
    assert "column 'rank': is double; domains.find.tasks.buy.label takes strings" in message


@pytest.mark.parametrize("value", [-0.1, 1.1, math.inf])
def test_a_probability_outside_0_to_1(world, tmp_path, value):
    change(tmp_path / "find" / "part-001.parquet", "truth", pa.array([0.0, 1.0, None, math.nan, value, 0.5]))
    message = told(world, tmp_path)
    assert message.startswith("find/part-001.parquet: column 'truth', row 1 of row group 1: the probability is")


def test_a_column_that_is_there_twice(world, tmp_path):
    path = tmp_path / "home" / "part-001.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.table([*table.columns, table["item"]], names=[*table.column_names, "item"]), path)
    assert told(world, tmp_path).startswith("home/part-001.parquet: column 'item': is there 2 times.")


@pytest.mark.parametrize("nothing", [pa.nulls(6), pa.array([[]] * 6, pa.list_(pa.null()))])
def test_a_file_without_any_past_does_not_decide_what_ids_are(world, tmp_path, nothing):
    change(tmp_path / "find" / "part-000.parquet", "history", nothing)
    check_events(world)


@pytest.mark.parametrize("nothing", [pa.nulls(6), pa.array([[]] * 6, pa.list_(pa.null()))])
def test_ids_of_another_type_are_found_behind_a_file_without_any(world, tmp_path, nothing):
    change(tmp_path / "find" / "part-000.parquet", "history", nothing)
    change(tmp_path / "find" / "part-001.parquet", "history", pa.array([["1"]] * 6))
    assert told(world, tmp_path).startswith("find/part-001.parquet: column 'history': holds string ids, but")


def test_a_catalog_s_columns_are_checked_with_the_events(world, tmp_path):
    items = pq.read_table(tmp_path / "items.parquet")
    at = items.column_names.index("price")
    pq.write_table(items.set_column(at, "price", pa.array(["9"] * len(items))), tmp_path / "items.parquet")
    assert "items.parquet: column 'price': is string; entities.item.features.price takes numbers" in told(
        world, tmp_path
    )


def test_a_bad_label_is_found_without_column_statistics(world, tmp_path):
    path = tmp_path / "home" / "part-001.parquet"
    table = pq.read_table(path)
    click = table.column_names.index("click")
    for values, bad in (([0, 1, 1, 0, 1], False), ([0, 1, 1, 0, 3], True)):
        table = table.set_column(click, "click", pa.array(values))
        pq.write_table(table, path.with_name(f"part-00{2 + bad}.parquet"), write_statistics=False)
        if bad:
            assert "row 4 of row group 0: the label is 3" in told(world, tmp_path)
        else:
            check_events(world)


@pytest.mark.parametrize(("column", "values"), [("item", ["1"] * 6), ("matched", [["1"]] * 6)])
def test_id_types_that_differ_between_files(world, tmp_path, column, values):
    change(tmp_path / "find" / "part-001.parquet", column, pa.array(values))
    message = told(world, tmp_path)
    assert message.startswith(f"find/part-001.parquet: column '{column}': holds string ids, but ")


def test_id_types_that_differ_between_domains(world, tmp_path):
    for number in (0, 1):
        change(tmp_path / "new" / f"part-00{number}.parquet", "user", pa.array([7] * 4))
    message = told(world, tmp_path)
    assert message.startswith("new/part-000.parquet: column 'user': holds integer ids, but ")
    assert "Write one type for entities.user" in message


def test_id_types_that_differ_from_the_catalog(world, tmp_path):
    items = pq.read_table(tmp_path / "items.parquet")
    pq.write_table(items.set_column(0, "item_id", items["item_id"].cast(pa.string())), tmp_path / "items.parquet")
    message = told(world, tmp_path)
    assert message.startswith(
        "find/part-000.parquet: column 'item': holds integer ids, but items.parquet holds string ids"
    )


def test_id_types_that_differ_from_the_history(tmp_path):
    # Without a catalog only the history can contradict the events.
    events = random_events(0, ROWS)
    experiment = write_world(tmp_path, events)
    path = tmp_path / "find" / "part-000.parquet"
    table = pq.read_table(path)
    at = table.column_names.index("history")
    pq.write_table(table.set_column(at, "history", table["history"].cast(pa.list_(pa.string()))), path)
    assert told(experiment, tmp_path).startswith("find/part-000.parquet: column 'history': holds string ids, but ")


def test_dictionaries_and_widths_of_one_kind_agree(world, tmp_path):
    path = tmp_path / "new" / "part-000.parquet"
    table = pq.read_table(path)
    coded = table["item"].cast(pa.int16()).combine_chunks().dictionary_encode()
    change(path, "item", coded)
    change(path, "user", table["user"].cast(pa.large_string()).combine_chunks().dictionary_encode())
    change(tmp_path / "new" / "part-001.parquet", "item", pa.nulls(4))
    check_events(world)


def test_one_column_may_serve_twice(world, tmp_path):
    again = ["domains.home.features.who={kind: categorical, column: user}", "domains.home.tasks.tap.label=click"]
    assert check_events(load_experiment(tmp_path, again, kinds=KINDS))["home"]["train"].rows == ROWS["home"]


def test_ids_of_a_run_are_of_its_types(world):
    known = {"id_item": "integer", "id_user": "string", "feature_slot": "string"}
    check_events(world, held=known)
    for table in known:
        with pytest.raises(UserError, match="but the run holds"):
            check_events(world, held=known | {table: "string" if known[table] == "integer" else "integer"})


def test_a_feature_that_domains_share_is_of_one_type(world, tmp_path):
    rows = pq.read_metadata(tmp_path / "home" / "part-000.parquet").num_rows
    change(tmp_path / "home" / "part-000.parquet", "slot", pa.array([1] * rows))
    assert "column 'slot': holds integer ids, but " in told(world, tmp_path)
