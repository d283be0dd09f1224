"""Files by path and by URI: the same answers for both, range reads, whole writes, and clear words for what goes wrong."""

import os
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.sections.bad_data import BadDataConfig
from foundrank.data.errors import UserError
from foundrank.data.events.event_files import Unreadable, list_events, open_parquet, read_group
from foundrank.data.storage import storage
from foundrank.data.storage.file_systems import StorageError, refuse_secrets
from foundrank.data.storage.globs import expand_glob
from tests.s3 import Bucket

SKIP = BadDataConfig(policy="skip", max_share=0.99)


@pytest.fixture(scope="module")
def events(bucket: Bucket) -> str:
    """The URI of a Parquet file of four row groups, two of whose three columns are large."""
    rng = np.random.default_rng(0)
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table({n: rng.random(100_000) for n in "ab"} | {"c": np.arange(100_000)}), sink, row_group_size=25_000
    )
    return bucket.put("events/part.parquet", sink.getvalue().to_pybytes())


def test_a_row_group_is_read_without_the_rest_of_the_file(bucket, events):
    size = len(bucket.get("events/part.parquet"))
    bucket.requests.clear()
    files = list_events(events, "events", BadDataConfig())
    assert files.group_rows == ((25_000,) * 4,)
    group = read_group(events, 2, ["b"])
    asked = [request for request in bucket.requests if request.method == "GET" and "list-type" not in request.query]
    assert all(request.range for request in asked)
    first, last = (int(at) for at in asked[-1].range.removeprefix("bytes=").split("-"))
    assert (size / 4 - 100_000) / 3 < last - first < size / 4  # a column of one of four row groups
    bucket.requests.clear()
    read_group(events, 3, ["b"])
    assert [request.method for request in bucket.requests] == ["GET"]  # neither footer nor size are asked for again
    sink = pa.BufferReader(bucket.get("events/part.parquet"))
    assert group.equals(pq.ParquetFile(sink).read_row_group(2, ["b"]))
    assert storage.sizes([events]) == [size]


@pytest.mark.parametrize("where", ["path", "s3", "file"])
def test_what_is_written_is_read_again(where, bucket, tmp_path):
    folder = {"path": str(tmp_path / "out"), "s3": f"{bucket.uri}/out", "file": f"file://{tmp_path}/out"}[where]
    assert storage.names(folder) == set()
    assert not storage.is_folder(folder)
    assert storage.read(storage.join(folder, "a")) is None
    for content in (b"first", b"second, and longer", b""):
        storage.write(storage.join(folder, "a"), content)
        assert storage.read(storage.join(folder, "a")) == content
    storage.write(storage.join(folder, "b", "c"), b"inner")
    assert storage.names(folder) == {"a", "b"}
    assert storage.is_folder(folder)
    assert not storage.is_folder(storage.join(folder, "a"))
    before = storage.modified(storage.join(folder, "b", "c"))
    assert abs(before / 1e9 - time.time()) < 60
    storage.remove(storage.join(folder, "a"))
    storage.remove(storage.join(folder, "a"))
    assert storage.names(folder) == {"b"}
    with storage.open_input(storage.join(folder, "b", "c")) as stream:
        assert stream.seek(0, os.SEEK_END) == 5
        stream.seek(2)
        assert stream.read(2) == b"ne"


def test_a_failed_write_leaves_what_was_there(bucket):
    uri = bucket.put("kept", b"old")
    bucket.fails = lambda request: (
        request.method != "GET" and request.path == "/test-storage/kept" and "part" in request.query
    )
    try:
        with pytest.raises(StorageError, match="access is denied"):
            storage.write(uri, os.urandom(12 << 20))  # in parts, which come together at the end
    finally:
        bucket.fails = lambda request: False
    assert bucket.get("kept") == b"old"


def test_locations_are_resolved_against_folders():
    assert storage.resolved("s3://b/x/", "/data") == "s3://b/x"
    assert storage.resolved("../x", "s3://b/runs/a") == "s3://b/runs/x"
    assert storage.resolved("events/*.parquet", "s3://b") == "s3://b/events/*.parquet"
    assert storage.resolved("/data/x", "s3://b/runs") == "/data/x"
    assert storage.resolved("../x", "/data/runs") == "/data/x"
    assert storage.parent("s3://b/a/experiment.yaml") == "s3://b/a"


@pytest.mark.parametrize(
    "uri", ["s3://id:secret@bucket/x", "s3://bucket/x?secret_key=secret", "gs://b/?access_token=secret"]
)
def test_a_secret_in_a_uri_is_refused_and_not_repeated(uri):
    for use in (storage.read, storage.names, expand_glob, lambda uri: refuse_secrets(uri, "the field")):
        with pytest.raises(UserError, match="credentials") as refused:
            use(uri)
        assert "secret@" not in str(refused.value)
        assert "=secret" not in str(refused.value)
    refuse_secrets("s3://bucket/part-?.parquet", "a glob")
    refuse_secrets("abfss://container@account.dfs.core.windows.net/x", "a container of an account")


def test_nobody_at_the_endpoint_is_told_within_seconds(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(StorageError, match=r"cannot be reached.*127.0.0.1:9.*AWS_ENDPOINT_URL"):
        expand_glob("s3://test-storage/*.parquet")
    assert time.monotonic() - started < 10


def test_a_bucket_that_is_not_there_is_told(bucket):
    for use in (storage.read, storage.names, expand_glob, lambda uri: storage.write(uri, b"")):
        with pytest.raises(StorageError, match="s3://another: there is no such bucket"):
            use("s3://another/x")


def test_what_is_not_permitted_is_told(bucket, events):
    bucket.fails = lambda request: "secret" in request.path + request.query
    try:
        for use in (storage.read, storage.names, storage.is_folder, storage.check_writable):
            with pytest.raises(StorageError, match=r"access is denied.*AWS_ACCESS_KEY_ID"):
                use(f"{bucket.uri}/secret")
    finally:
        bucket.fails = lambda request: False


def test_an_unknown_scheme_is_told():
    with pytest.raises(UserError, match="unheard://x: cannot be opened"):
        storage.names("unheard://x/y")


def test_a_store_that_does_not_answer_is_no_damaged_file(bucket, events):
    """Under ``skip``, a file would be left out."""
    damaged = bucket.put("mixed/damaged.parquet", b"PAR1" + bytes(1000))
    good = bucket.put("mixed/good.parquet", bucket.get("events/part.parquet"))
    assert list_events(f"{bucket.uri}/mixed/*", "events", SKIP).set_aside[0][0] == damaged
    open_parquet.__globals__["_open_remote"].cache_clear()
    bucket.fails = lambda request: request.method == "GET" and request.path.endswith("good.parquet")
    try:
        with pytest.raises(StorageError, match="access is denied"):
            list_events(f"{bucket.uri}/mixed/*", "events", SKIP)
        bucket.fails = lambda request: False
        open_parquet(good)
        bucket.fails = lambda request: request.method == "GET" and request.path.endswith("good.parquet")
        with pytest.raises(StorageError, match="access is denied"):
            read_group(good, 0, ["a"])
    finally:
        bucket.fails = lambda request: False
    assert not issubclass(StorageError, Unreadable)


def test_what_a_killed_job_was_writing_does_not_fill_a_folder(tmp_path):
    for name in (".part-00000-00000.parquet.tmp-123", "._job.json.tmp-9", "part-00000-00001.parquet", ".tmp-notes"):
        (tmp_path / name).write_bytes(b"half")
    assert storage.names(tmp_path) == {"part-00000-00001.parquet", ".tmp-notes"}
