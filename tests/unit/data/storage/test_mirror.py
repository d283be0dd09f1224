"""Mirrors: the files of a bucket on this machine, no others, fetched once and published whole."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from foundrank.data.contents.content_store import FORMAT, ContentStore, open_store
from foundrank.data.contents.store_mirror import begin_from_published, publish_store
from foundrank.data.errors import UserError
from foundrank.data.storage import storage
from foundrank.data.storage.file_systems import StorageError
from foundrank.data.storage.mirror import (
    fetch,
    fetch_again,
    mirrored,
    origin,
    publish,
    publish_changed,
    remove_original,
    shown,
)
from tests.content_store import write_store

pytestmark = pytest.mark.usefixtures("cache")


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("uri", ["s3://bucket/a/b", "s3://bucket", "abfss://c@account.host/x", "file:///tmp/x"])
def test_a_mirror_and_its_original_name_each_other(uri, cache):
    for use in ("read", "work"):
        folder = mirrored(uri, use)
        assert folder.is_relative_to(cache / use)
        assert origin(folder) == uri
        assert origin(folder / "x") == f"{uri}/x"
        assert shown(f"{folder}/x: is damaged") == f"{uri}/x: is damaged"
    assert mirrored("/data/x", "read") == Path("/data/x")
    assert origin(Path("/data/x")) is None
    assert shown("/data/x") == "/data/x"


def test_a_uri_that_leads_out_of_the_cache_is_refused():
    with pytest.raises(UserError, match=r"has '\.\.' in it"):
        mirrored("s3://bucket/../../../etc", "work")


def test_a_mirror_becomes_what_its_original_is(bucket, monkeypatch):
    monkeypatch.setattr(storage, "_BLOCK", 1000)  # a file in several blocks
    wanted = {"a": b"first", "folder/b": os.urandom(12_345), "folder/.metadata": b"", "c": b"!"}
    for name, content in wanted.items():
        bucket.put(f"fetched/{name}", content)
    folder = mirrored(f"{bucket.uri}/fetched", "read")
    fetch(folder)
    assert files(folder) == wanted
    bucket.requests.clear()
    fetch(folder)
    assert len(bucket.requests) == 1  # a list

    bucket.put("fetched/a", b"other")  # as long as before
    bucket.files.delete_file("test-mirror/fetched/c")
    os.utime(folder / "a", ns=(0, 0))
    (folder / "folder" / "extra").write_bytes(b"not there")
    (folder / ".alive").touch()
    fetch(folder)
    wanted = {"a": b"other", "folder/b": wanted["folder/b"], "folder/.metadata": b""}
    assert files(folder) == wanted | {".alive": b""}

    (folder / "a").write_bytes(b"here.")
    assert fetch_again(folder / "a")
    assert (folder / "a").read_bytes() == b"other"
    assert not fetch_again(Path(__file__))


def test_only_what_is_wanted_is_fetched_and_removed(bucket):
    for name in ("x", "y"):
        bucket.put(f"some/{name}", b"")
    folder = mirrored(f"{bucket.uri}/some", "read")
    folder.mkdir(parents=True)
    (folder / "z").touch()
    fetch(folder, lambda name: name == "x")
    assert files(folder).keys() == {"x", "z"}


def test_many_processes_fetch_once(bucket):
    bucket.put("shared/vectors", os.urandom(100_000))
    folder = mirrored(f"{bucket.uri}/shared", "read")
    bucket.requests.clear()
    with ThreadPoolExecutor(4) as pool:  # each opens the lock file anew, as processes do
        list(pool.map(fetch, [folder] * 4))
    assert len([request for request in bucket.requests if request.range]) == 1


def test_what_is_published_is_a_copy_from_then_on(bucket):
    folder = mirrored(f"{bucket.uri}/published", "work")
    folder.mkdir(parents=True)
    for name in ("b", "a", "empty"):
        (folder / name).write_bytes(name.encode() * (name != "empty"))
    publish_changed(folder, ["b", "a", "empty"])
    assert bucket.keys("published") == ["a", "b", "empty"]
    bucket.requests.clear()
    publish_changed(folder, ["a", "b"])
    fetch(folder)
    assert {request.method for request in bucket.requests} == {"GET"}
    assert not [request for request in bucket.requests if request.range]
    read = mirrored(f"{bucket.uri}/published", "read")
    fetch(read)
    (folder / "a").write_bytes(b"2")  # as long as the one before, and in the same second
    publish_changed(folder, ["a", "b"])
    assert (bucket.get("published/a"), bucket.get("published/b")) == (b"2", b"b")
    fetch(read)
    assert (read / "a").read_bytes() == b"2"
    (folder / "temporary").write_bytes(b"3")
    publish(folder / "temporary", folder / "final")
    assert bucket.get("published/final") == b"3"
    remove_original(folder / "final")
    assert bucket.keys("published") == ["a", "b", "empty"]
    remove_original(folder)
    assert bucket.keys("published") == []


def test_a_cache_that_cannot_be_written_is_told(bucket, cache):
    bucket.put("full/x", b"")
    cache.write_text("a file")
    with pytest.raises(UserError, match="FOUNDRANK_CACHE"):
        fetch(mirrored(f"{bucket.uri}/full", "read"))


def store_of(folder: Path, seed: int, rows: int = 5) -> Path:
    vectors = np.random.default_rng(seed).random((rows, 4))
    manifest = {"asked": {}, "catalog_fingerprint": "", "format": FORMAT}
    write_store(folder, pa.array(range(rows)), np.arange(rows), vectors, manifest)
    return folder


def same_store(given: ContentStore, wanted: ContentStore) -> bool:
    return given.manifest == wanted.manifest and bool((given.vectors == wanted.vectors).all())


def test_a_text_store_is_published_and_read_elsewhere(bucket, tmp_path):
    folder = store_of(mirrored(f"{bucket.uri}/store/item", "work"), 1)
    begin_from_published(folder)  # there is none yet: what is here stays
    publish_store(folder, rebuilt=False)
    read = mirrored(f"{bucket.uri}/store/item", "read")
    local = store_of(tmp_path / "local", 1)
    assert same_store(open_store(read), open_store(local))
    bucket.requests.clear()
    begin_from_published(folder)
    publish_store(folder, rebuilt=False)
    assert {request.method for request in bucket.requests} <= {"GET", "HEAD"}


def test_a_rebuilt_store_is_not_there_until_it_is_whole(bucket, tmp_path):
    folder = store_of(mirrored(f"{bucket.uri}/rebuilt/item", "work"), 1)
    publish_store(folder, rebuilt=False)
    read = mirrored(f"{bucket.uri}/rebuilt/item", "read")
    old = open_store(read)
    store_of(folder, 2)
    bucket.fails = lambda request: request.method == "PUT" and "/index-" in request.path
    try:
        with pytest.raises(StorageError, match="access is denied"):
            publish_store(folder, rebuilt=True)
    finally:
        bucket.fails = lambda request: False
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        open_store(read)
    begin_from_published(folder)  # run again: what was rebuilt is not lost
    publish_store(folder, rebuilt=True)
    new = open_store(read)
    assert same_store(new, open_store(store_of(tmp_path / "local", 2)))
    assert not same_store(new, old)
    assert len([key for key in bucket.keys("rebuilt/item") if key.startswith("index-")]) == 1


def test_a_job_begins_with_the_store_that_another_machine_published(bucket, cache, monkeypatch):
    folder = store_of(mirrored(f"{bucket.uri}/grown/item", "work"), 1)
    publish_store(folder, rebuilt=False)
    (folder / "work").mkdir()
    (folder / "work" / "shard").touch()
    begin_from_published(folder)
    assert (folder / "work" / "shard").exists()  # of a job that was interrupted here

    monkeypatch.setenv("FOUNDRANK_CACHE", str(cache.parent / "other"))
    elsewhere = mirrored(f"{bucket.uri}/grown/item", "work")
    begin_from_published(elsewhere)
    assert files(elsewhere).keys() == files(folder).keys() - {"work/shard"}
    publish_store(store_of(elsewhere, 3, rows=7), rebuilt=True)

    monkeypatch.setenv("FOUNDRANK_CACHE", str(cache))
    begin_from_published(folder)
    assert files(folder) == files(elsewhere)
