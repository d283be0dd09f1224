"""Patterns: what they name on this machine and in a bucket, which names are no data, and names that look like patterns."""

import glob
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.config.sections.bad_data import BadDataConfig
from foundrank.data.errors import UserError
from foundrank.data.events.event_files import list_events
from foundrank.data.storage.globs import expand_glob, parquet_below, would_name
from tests.s3 import Bucket

HIDDEN = ("in/_temporary/0/b.parquet", "in/x/_delta_log/0.checkpoint.parquet", "in/.h/c.parquet", "in/_SUCCESS.parquet")
SHOWN = ("in/a.parquet", "in/_day=1/d.parquet", "in/x/y/e.parquet")


def test_globs_leave_out_markers_and_folders(tmp_path):
    for name in ("b.parquet", "a.parquet", "_SUCCESS", ".hidden.parquet", "_metadata.parquet"):
        (tmp_path / name).touch()
    (tmp_path / "c.parquet").mkdir()
    (tmp_path / "c.parquet" / "d.parquet").touch()
    assert expand_glob(str(tmp_path / "*")) == [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    nested = [str(tmp_path / name) for name in ("a.parquet", "b.parquet", "c.parquet/d.parquet")]
    assert expand_glob(str(tmp_path / "**/*.parquet")) == nested
    assert expand_glob(str(tmp_path / "z*")) == []


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files whose names fit patterns in many ways."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("a", "b", "ab", "x/a", "x/b", "x/y/a", "x/y/ab", "y/x/y/b", ".h", "x/.h", ".h/a", "_a", "y/_a/b"):
        path = folder / "files" / name
        path = path / "a.p" if path.is_dir() else path.with_name(f"{path.name}.p")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder / "files"


PART = st.sampled_from(["*", "**", "x", "y", "?", "[xy]", "[!x]", "*.p", "a.p", "a*", "_a", ".h", "z"])


def by_the_library(folder: Path, parts: list[str]) -> list[str]:
    """What `glob` says, without files and folders that begin with an underscore where no part of the pattern does."""
    found = glob.glob("/".join(parts), root_dir=folder, recursive=True)
    files = {name for name in found if (folder / name).is_file() and not name.endswith("/")}
    if not any(part.startswith("_") for part in parts):
        files = {name for name in files if not any(part.startswith("_") for part in name.split("/"))}
    return sorted(str(folder / name) for name in files)


@given(parts=st.lists(PART, min_size=1, max_size=4))
@settings(max_examples=200)
def test_patterns_name_the_same_in_paths_and_uris_and_what_the_library_says(tree, parts):
    pattern = "/".join([str(tree), *parts])
    found = expand_glob(pattern)
    assert [uri.removeprefix("file://") for uri in expand_glob(f"file://{pattern}")] == found
    if "**" not in parts[1:] and "a.p" not in parts[:-1]:  # a file is no folder, but glob says it is
        assert found == by_the_library(tree, parts)


def test_globs_in_a_bucket(bucket):
    for key in ("days/1/a.parquet", "days/1/b.parquet", "days/2/c.parquet", "days/2/_SUCCESS", "weeks/1/d.parquet"):
        bucket.put(key, b"")
    bucket.requests.clear()
    assert expand_glob(f"{bucket.uri}/days/[1]/*.parquet") == [f"{bucket.uri}/days/1/{n}.parquet" for n in "ab"]
    lists = [request.query for request in bucket.requests if "list-type" in request.query]
    assert all("delimiter" in query and "days%2F2" not in query for query in lists)  # other days may hold much
    nested = [f"{bucket.uri}/{key}" for key in ("days/1/a.parquet", "days/1/b.parquet", "days/2/c.parquet")]
    assert expand_glob(f"{bucket.uri}/days/**/*.parquet") == nested
    assert expand_glob(f"{bucket.uri}/days/1/a.parquet") == nested[:1]
    assert expand_glob(f"{bucket.uri}/days/1/z.parquet") == expand_glob(f"{bucket.uri}/nothing/*") == []


def put(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return sorted(str(folder / name) for name in names)


def test_what_jobs_leave_in_folders_is_no_data(tmp_path, bucket: Bucket):
    shown, _ = put(tmp_path, *SHOWN), put(tmp_path, *HIDDEN)
    for where in (str(tmp_path), f"file://{tmp_path}"):
        found = expand_glob(parquet_below(f"{where}/in"))
        assert [file.removeprefix("file://") for file in found] == shown
    for key in (*SHOWN, *HIDDEN):
        bucket.put(f"hidden/{key}", b"")
    assert expand_glob(parquet_below(f"{bucket.uri}/hidden/in")) == sorted(f"{bucket.uri}/hidden/{n}" for n in SHOWN)
    # Whoever says such a name means it.
    said = str(tmp_path / "in/_temporary/0/b.parquet")
    assert expand_glob(said) == expand_glob(f"{tmp_path}/in/_temp*/0/*") == [said]
    assert expand_glob(parquet_below(f"{tmp_path}/in/_temporary")) == [said]
    assert expand_glob(f"{tmp_path}/*/*/*.parquet") == [str(tmp_path / "in/_day=1/d.parquet")]


@pytest.mark.parametrize("where", ["path", "s3", "file"])
def test_what_exists_is_no_pattern(tmp_path, bucket, where):
    names = ("data [final]/a[1].parquet", "data [final]/what?.parquet", "data [final]/x.parquet", "data f/a1.parquet")
    if where == "s3":
        for name in names:
            bucket.put(f"brackets/{name}", b"")
        folder = f"{bucket.uri}/brackets"
    else:
        put(tmp_path, *names)
        folder = f"{'file://' if where == 'file' else ''}{tmp_path}"
    for name in names:
        assert expand_glob(f"{folder}/{name}") == [f"{folder}/{name}"]
    assert expand_glob(f"{folder}/data [final]/*.parquet") == sorted(f"{folder}/{name}" for name in names[:3])
    assert expand_glob(parquet_below(f"{folder}/data [final]")) == sorted(f"{folder}/{name}" for name in names[:3])
    assert expand_glob(f"{folder}/data [e-g]/a[0-9].parquet") == [f"{folder}/{names[3]}"]
    assert expand_glob(f"{folder}/*/a[1].parquet") == [f"{folder}/{names[3]}", f"{folder}/{names[0]}"][::-1]


def test_relative_patterns_and_the_folder_of_the_command(tmp_path, monkeypatch):
    put(tmp_path, "in/a.parquet", "b.parquet")
    monkeypatch.chdir(tmp_path / "in")
    assert expand_glob("a.parquet") == expand_glob("./*.parquet") == expand_glob(parquet_below(".")) == ["a.parquet"]
    assert expand_glob("../*.parquet") == ["../b.parquet"]
    assert expand_glob("a.parquet/") == expand_glob("") == []


def test_a_link_to_a_folder_around_it_brings_nothing_twice(tmp_path):
    (only,) = put(tmp_path, "in/x/a.parquet")
    (tmp_path / "in/x/round").symlink_to(tmp_path / "in")
    (tmp_path / "in/gone.parquet").symlink_to(tmp_path / "nothing")
    assert expand_glob(parquet_below(str(tmp_path / "in"))) == [only]


def test_a_folder_in_place_of_its_files_is_told(tmp_path):
    put(tmp_path, "events/a.parquet")
    with pytest.raises(UserError, match=r"is a folder\. Name its files, e\.g\. .*events/\*\.parquet"):
        list_events(str(tmp_path / "events"), "domains.home.events.train", BadDataConfig())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_told(tmp_path):
    put(tmp_path, "in/a.parquet", "in/closed/b.parquet")
    (tmp_path / "in/closed").chmod(0)
    with pytest.raises(UserError, match="cannot be listed"):
        expand_glob(parquet_below(str(tmp_path / "in")))


def test_what_would_be_named(tmp_path):
    put(tmp_path, "in/a.parquet")
    inside, pattern = str(tmp_path / "in/scores/part-0.parquet"), parquet_below(str(tmp_path / "in"))
    assert would_name(pattern, inside)
    assert would_name(f"file://{pattern}", inside)
    assert not would_name(pattern, str(tmp_path / "in/_scores/part-0.parquet"))
    assert not would_name(f"{tmp_path}/in/*.parquet", inside)
    assert not would_name(pattern, str(tmp_path / "out/part-0.parquet"))
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert would_name(pattern, str(tmp_path / "link/scores/part-0.parquet"))
