"""Delta tables as the library writes them."""

import json
import struct
import sys
from base64 import b85encode
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from foundrank.data.errors import UserError
from foundrank.data.storage.delta_tables import active_files, with_version
from foundrank.data.storage.globs import expand_glob, nothing_matches, would_name
from foundrank.data.storage.storage import resolved


def numbers(location: str) -> list[int]:
    return sorted(x for file in expand_glob(location) for x in pq.read_table(file, partitioning=None)["x"].to_pylist())


def refused(location: str) -> str:
    with pytest.raises(UserError) as error:
        expand_glob(location)
    assert str(error.value).startswith(location.partition("@")[0])
    return str(error.value)


def change_log(table: Path, version: int, change) -> None:
    """Puts what ``change`` makes of each action of a version into its place."""
    log = table / "_delta_log" / f"{version:020}.json"
    actions = [change(json.loads(line)) for line in log.read_text().splitlines()]
    log.write_text("\n".join(map(json.dumps, actions)))


@pytest.fixture
def table(tmp_path):
    """Written, appended to, overwritten, and without one row: its versions 0 to 3. All files are still there."""
    folder = tmp_path / "data tables@7" / "a b*ü"
    folder.parent.mkdir()
    write_deltalake(folder, pa.table({"x": [1, 2], "day": ["a b", "c/d%"]}), partition_by=["day"])
    write_deltalake(folder, pa.table({"x": [3], "day": ["a b"]}), mode="append")
    write_deltalake(folder, pa.table({"x": [4, 5], "day": ["a b", "a b"]}), mode="overwrite")
    DeltaTable(folder).delete("x = 4")
    assert len(list(folder.rglob("*.parquet"))) == 5
    return folder


def test_a_version_has_the_files_that_its_log_says(table):
    assert numbers(f"delta:{table}") == [5]
    assert [numbers(f"delta:{table}@{version}") for version in range(4)] == [[1, 2], [1, 2, 3], [4, 5], [5]]
    files = active_files(f"delta:{table}@1")
    assert files == sorted(files)
    assert all(file.startswith(f"{table}/day=") for file in files)
    assert with_version(f"delta:{table}") == f"delta:{table}@3"
    assert with_version(f"delta:{table}@1") == f"delta:{table}@1"
    assert "has no version 4. The current one is 3" in refused(f"delta:{table}@4")


def test_a_checkpoint_of_the_log_is_read(table):
    DeltaTable(table).create_checkpoint()
    for version in range(3):
        (table / "_delta_log" / f"{version:020}.json").unlink()
    assert numbers(f"delta:{table}") == [5]
    assert "cannot be read as a Delta table" in refused(f"delta:{table}@1")


def test_a_pattern_leaves_the_log_alone(table):
    DeltaTable(table).create_checkpoint()
    assert list((table / "_delta_log").glob("*.parquet"))
    assert numbers(f"{table}/**/*.parquet") == [1, 2, 3, 4, 5, 5]  # with what the table has removed


def test_locations(table, tmp_path):
    assert resolved("delta:tables/a@3", tmp_path) == f"delta:{tmp_path}/tables/a@3"
    assert resolved(f"delta:{table}", "/elsewhere") == f"delta:{table}"
    assert expand_glob(f"delta:{tmp_path}/none") == []
    told = str(nothing_matches(f"delta:{tmp_path}@3", "domains.a.events.train", ""))
    assert told.startswith(f"domains.a.events.train: '{tmp_path}' is no Delta table, or holds no rows")
    assert would_name(f"delta:{table}@3", f"{table}/run/user.parquet")  # which a vacuum would remove
    assert not would_name(f"delta:{table}", f"{table.parent}/run/user.parquet")
    with pytest.raises(UserError, match="is no Delta table"):
        with_version(f"delta:{tmp_path}")
    assert "read on local paths only" in refused("delta:s3://bucket/table")


def test_a_location_that_may_mean_two_tables_is_refused(tmp_path):
    write_deltalake(tmp_path / "shop", pa.table({"x": [1]}))
    assert numbers(f"delta:{tmp_path}/shop@0") == [1]
    write_deltalake(tmp_path / "shop@0", pa.table({"x": [2]}))
    assert "may mean version 0" in refused(f"delta:{tmp_path}/shop@0")
    assert numbers(f"delta:{tmp_path}/shop@0@0") == [2]


@pytest.mark.parametrize("place", ["../other/part.parquet", "{}/other/part.parquet", "..%2Fother/part.parquet"])
def test_a_file_outside_the_table_is_refused(tmp_path, place):
    """What a log names is read with this user's rights."""
    write_deltalake(tmp_path / "shop", pa.table({"x": [1]}))
    (tmp_path / "other").mkdir()
    pq.write_table(pa.table({"x": [7]}), tmp_path / "other" / "part.parquet")

    def elsewhere(action):
        return {"add": action["add"] | {"path": place.format(tmp_path)}} if "add" in action else action

    change_log(tmp_path / "shop", 0, elsewhere)
    with pytest.raises(UserError, match=r"outside its folder|cannot be read as a Delta table"):
        expand_glob(f"delta:{tmp_path}/shop")


def test_a_file_that_was_vacuumed_is_missed(table):
    (removed, *_) = sorted({*active_files(f"delta:{table}@1")} - {*active_files(f"delta:{table}")})
    Path(removed).unlink()
    assert f"version 1 has the file {removed}, which is not there" in refused(f"delta:{table}@1")
    assert numbers(f"delta:{table}") == [5]


def test_a_damaged_log_is_refused(table):
    (table / "_delta_log" / f"{1:020}.json").write_text('{"add":')
    assert "cannot be read as a Delta table" in refused(f"delta:{table}")


def bitmap(*rows: int) -> str:
    """Rows of a file as the format writes them beside its name: a Roaring bitmap in Z85."""
    container = struct.pack(f"<{len(rows)}H", *rows)
    plain = struct.pack("<IIHHI", 12346, 1, 0, len(rows) - 1, 16) + container
    held = struct.pack("<IQI", 1681511377, 1, 0) + plain
    to_z85 = bytes.maketrans(
        b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~",
        b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#",
    )
    assert len(held) % 4 == 0
    return b85encode(held).translate(to_z85).decode()


@pytest.mark.parametrize("deleted", [(), (0, 2)])
def test_rows_that_are_deleted_by_a_vector_are_refused_and_not_read(tmp_path, deleted):
    """Tables may allow such vectors, and have none."""
    table = tmp_path / "table"
    write_deltalake(table, pa.table({"x": [1, 2, 3]}))
    vector = {"storageType": "i", "pathOrInlineDv": bitmap(0, 2), "sizeInBytes": 40, "cardinality": 2}

    def change(action):
        features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
        if "protocol" in action:
            return {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}}
        return {"add": action["add"] | {"deletionVector": vector}} if "add" in action and deleted else action

    change_log(table, 0, change)
    if deleted:
        ((_, kept),) = zip(*pa.table(DeltaTable(table).deletion_vectors()).to_pydict().values(), strict=True)
        assert kept == [False, True, False]
        assert "has deletion vectors" in refused(f"delta:{table}")
    else:
        assert numbers(f"delta:{table}") == [1, 2, 3]


def test_a_vector_that_is_gone_is_told(tmp_path):
    table = tmp_path / "table"
    write_deltalake(table, pa.table({"x": [1, 2, 3]}))
    name = {
        "storageType": "u",
        "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^",
        "offset": 1,
        "sizeInBytes": 40,
        "cardinality": 2,
    }

    def change(action):
        features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
        if "protocol" in action:
            return {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}}
        return {"add": action["add"] | {"deletionVector": name}} if "add" in action else action

    change_log(table, 0, change)
    assert "cannot be read as a Delta table" in refused(f"delta:{table}")


@pytest.mark.parametrize(("mode", "told"), [("name", "maps its columns to other names"), ("none", "")])
def test_columns_of_other_names_are_refused(tmp_path, mode, told):
    table = tmp_path / "table"
    write_deltalake(table, pa.table({"x": [1, 2, 3]}))

    def change(action):
        if "protocol" in action:
            return {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}
        if "metaData" not in action:
            return action
        schema = json.loads(action["metaData"]["schemaString"])
        named = {"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "col-1"}
        schema["fields"][0]["metadata"] = named if mode == "name" else {}
        settings = {"delta.columnMapping.mode": mode}
        return {"metaData": action["metaData"] | {"configuration": settings, "schemaString": json.dumps(schema)}}

    change_log(table, 0, change)
    if told:
        assert told in refused(f"delta:{table}")
    else:
        assert numbers(f"delta:{table}") == [1, 2, 3]


@pytest.mark.parametrize("feature", ["variantType", "newFeature"])  # which the library knows, and which it refuses
def test_what_is_not_known_here_is_refused(tmp_path, feature):
    table = tmp_path / "table"
    write_deltalake(table, pa.table({"x": [1, 2, 3]}))

    def change(action):
        asked = {"readerFeatures": [feature], "writerFeatures": [feature]}
        protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **asked}}
        return protocol if "protocol" in action else action

    change_log(table, 0, change)
    told = refused(f"delta:{table}")
    assert feature in told
    assert ("asks its readers for 'variantType'" in told) == (feature == "variantType")


def test_without_the_library_the_extra_is_named(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "deltalake", None)
    assert "pip install 'foundrank[delta]'" in refused(f"delta:{table}")
    assert numbers(f"{table}/**/*.parquet") == [1, 2, 3, 4, 5, 5]


def test_signs_that_the_library_takes_for_others_are_refused(tmp_path):
    write_deltalake(tmp_path / "a b", pa.table({"x": [1]}))
    write_deltalake(tmp_path / "plain", pa.table({"x": [2]}))
    (tmp_path / "plain").rename(tmp_path / "a[b]?#")
    assert numbers(f"delta:{tmp_path}/a[b]?#") == [2]
    (tmp_path / "a[b]?#").rename(tmp_path / "a%20b")
    assert "has a % in its path" in refused(f"delta:{tmp_path}/a%20b")
