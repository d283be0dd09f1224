"""Updating a run in an object store: the bits of the same updates on a disk, also on another machine after a kill."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

import foundrank as foundrank_module
from foundrank.data.errors import UserError
from foundrank.dist.lease.lease import Claim, holding
from foundrank.scorer import Scorer

from ..s3 import Bucket, Request, s3_bucket
from .commands import COMMAND, ENVIRONMENT, Here, foundrank
from .test_train_again import wait_until
from .updates import MANAGED, assert_same, record, simulated_feed

DAYS = (6, 7, 8)


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten days of a feed."""
    return simulated_feed(tmp_path_factory.mktemp("feed"))


@pytest.fixture(scope="module")
def bucket(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A bucket with the events, and ``RUN``, trained there on four days."""
    with s3_bucket("updates") as started, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOUNDRANK_CACHE", str(tmp_path_factory.mktemp("cache")))
        fs.copy_files(str(feed / "events"), "updates/events", fs.LocalFileSystem(), started.files)
        foundrank("train", feed, "--run-dir", f"{started.uri}/RUN", *in_bucket(started))
        yield started


@pytest.fixture(scope="module")
def updated(feed: Path, bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on a disk, after three more days."""
    run = copied(bucket, "RUN", tmp_path_factory.mktemp("updated") / "run")
    for number in DAYS:
        foundrank("update", run, "--events", day(feed, number), "--keep", 9)
    return run


@pytest.fixture
def on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Makes this machine one that has nothing of any bucket; its cache folder."""

    def change() -> Path:
        cache = tmp_path / f"cache{len([*tmp_path.glob('cache*')])}"
        cache.mkdir()
        monkeypatch.setenv("FOUNDRANK_CACHE", str(cache))
        return cache

    change()
    return change


@pytest.fixture
def run(bucket: Bucket, on_another_machine: Callable[[], Path]) -> Iterator[str]:
    """A copy of the run, ``run`` in the bucket; its URI."""
    fs.copy_files("updates/RUN", "updates/run", bucket.files, bucket.files)
    yield f"{bucket.uri}/run"
    bucket.fails = lambda request: False
    bucket.files.delete_dir("updates/run")


def in_bucket(bucket: Bucket) -> list[str]:
    """Options of a training on the first days, as the bucket has them."""
    return [*MANAGED, "--set", f"domains.feed.events.train={bucket.uri}/events/feed/day=2026-01-0[1-4]/*.parquet"]


def day(world: object, number: int) -> str:
    return f"{world}/events/feed/day=2026-01-{number:02d}/*.parquet"


def lines(bucket: Bucket) -> list[dict[str, Any]]:
    return [json.loads(line) for line in bucket.get("run/increments.jsonl").splitlines()]


def current(bucket: Bucket) -> str:
    return json.loads(bucket.get("run/current.json"))["run"]


def versions(bucket: Bucket, kind: str = "increments") -> list[str]:
    """What there is in the bucket of increments or deltas, as ``increments/00001-1f2e3d4c``."""
    return sorted({f"{kind}/{key.partition('/')[0]}" for key in bucket.keys(f"run/{kind}")})


def copied(bucket: Bucket, key: str, to: Path) -> Path:
    """A folder of the bucket, on the disk."""
    to.mkdir(parents=True)
    fs.copy_files(f"updates/{key}", str(to), bucket.files, fs.LocalFileSystem())
    return to


def assert_same_version(bucket: Bucket, number: int, updated: Path, to: Path) -> None:
    """The current version is that of an increment on the disk, to the bit."""
    assert_same(copied(bucket, f"run/{current(bucket)}", to), updated / record(updated)[number - 1]["run"])


def test_days_on_one_machine_after_the_other_give_the_bits_of_a_run_on_a_disk(
    feed, bucket, run, updated, on_another_machine, tmp_path, here: Here
):
    status, told = here("update", run, "--events", day(bucket.uri, 6), "--check")
    assert status == 0, told
    assert not [key for key in bucket.keys("run") if key.startswith(("increments", "deltas", "current"))]
    for number in DAYS:
        cache = on_another_machine()
        foundrank("update", f"{run}/", "--events", day(bucket.uri, number))
    mine, others = lines(bucket), record(updated)
    assert [line["base"] for line in mine] == [".", mine[0]["run"], mine[1]["run"]]
    for key in ("increment", "before", "rows", "ids"):
        assert [line[key] for line in mine] == [line[key] for line in others], key
    assert_same_version(bucket, 3, updated, tmp_path / "now")
    # The newest two are kept, with what leads to them, and in this machine's cache there is no more.
    assert versions(bucket) == [mine[1]["run"], mine[2]["run"]]
    assert versions(bucket, "deltas") == ["deltas/00002", "deltas/00003"]
    for name in ("00002", "00003"):
        ours = copied(bucket, f"run/deltas/{name}", tmp_path / name)
        for file in (updated / "deltas" / name).glob("*.*"):
            assert (ours / file.name).read_bytes() == file.read_bytes(), file.name
    foundrank("update", run, "--events", day(bucket.uri, 9))
    left = {path.name for use in ("read", "work") for path in (cache / use / "s3/updates/run/increments").iterdir()}
    assert left == {one.removeprefix("increments/") for one in versions(bucket)}
    for known in (9, 2):
        assert "nothing new" in foundrank("update", run, "--events", day(bucket.uri, known)).stdout


def test_other_commands_take_the_newest_version(feed, bucket, run, on_another_machine, tmp_path):
    foundrank("update", run, "--events", day(bucket.uri, 6))
    on_another_machine()
    out = [tmp_path / name for name in ("newest", "by_name", "promoted")]
    foundrank("promote", run, f"{bucket.uri}/in_use")
    for one, folder in zip((run, f"{run}/{current(bucket)}", f"{bucket.uri}/in_use"), out, strict=True):
        foundrank("score", one, day(bucket.uri, 7), folder, "--domain", "feed")
    newest, *others = (pq.read_table(folder) for folder in out)
    assert all(newest.equals(other) for other in others)
    foundrank("evaluate", run)
    foundrank("report", run)
    there = bucket.keys(f"run/{current(bucket)}")
    assert {"evaluation.json", "report.html"} <= set(there)
    assert "evaluation.json" not in bucket.keys("run")
    # Training the run itself again, which is finished, leaves what updates have made of it.
    before = [key for key in bucket.keys("run") if "tensorboard" not in key]
    foundrank("train", feed, "--run-dir", run, *in_bucket(bucket))
    assert [key for key in bucket.keys("run") if "tensorboard" not in key] == before


def test_a_killed_update_goes_on_on_another_machine(bucket, run, updated, on_another_machine, tmp_path):
    foundrank("update", run, "--events", day(bucket.uri, 6))
    command = [*COMMAND, "update", run, "--events", day(bucket.uri, 7), "--set", "training.checkpoint_every=2"]
    process = subprocess.Popen(
        command, env=ENVIRONMENT | dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    sign = re.compile(r"00002-.*/COMMITTED")
    try:
        wait_until(lambda: any(map(sign.match, bucket.keys("run/increments"))), process)
    finally:
        for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            one.kill()
        process.wait()
    assert current(bucket).startswith("increments/00001-")
    on_another_machine()
    # The next night's, which knows nothing of the seventh.
    told = foundrank("update", run, "--events", day(bucket.uri, 8))
    assert "was begun and not finished" in told.stderr
    assert [line["before"] for line in lines(bucket)] == [line["before"] for line in record(updated)]
    assert_same_version(bucket, 3, updated, tmp_path / "now")


@pytest.mark.parametrize(
    ("last", "published"),
    [("DELETE", "increments/00001-"), ("PUT", "increments.jsonl"), ("PUT", "current.json"), ("PUT", "deltas/00002/COMMITTED")],
)  # fmt: skip
def test_a_publishing_that_is_cut_short_leaves_a_good_version(
    bucket, run, updated, on_another_machine, tmp_path, last: str, published: str
):
    """The store takes nothing more from a request on, as if the machine had died there."""
    foundrank("update", run, "--events", day(bucket.uri, 6))
    first, over = current(bucket), list[Request]()

    def fails(request: Request) -> bool:
        is_last = request.method == last and request.path.startswith(f"/updates/run/{published}")
        dead = bool(over) or (is_last and last == "PUT")  # an old version loses a file, and then is no run any more
        over.extend([request] * is_last)
        return dead and request.method in ("PUT", "POST", "DELETE") and "/.leases/" not in request.path

    bucket.fails = fails
    foundrank("update", run, "--events", day(bucket.uri, 7), "--keep", 1, status=2)
    bucket.fails = lambda request: False
    assert over
    is_new = (last, published) in (("DELETE", "increments/00001-"), ("PUT", "increments.jsonl"))
    assert (current(bucket) != first) == is_new
    foundrank_module.load(run)
    if last == "DELETE":
        assert f"{first}/experiment.yaml" not in bucket.keys("run")
        assert f"{first}/run.json" in bucket.keys("run")
    if published == "deltas/00002/COMMITTED":
        assert "00002/dense.safetensors" in bucket.keys("run/deltas")
        assert "00002/COMMITTED" not in bucket.keys("run/deltas")
    on_another_machine()
    foundrank("update", run, "--events", day(bucket.uri, 8), "--keep", 1)
    assert [line["increment"] for line in lines(bucket)] == [1, 2, 3]
    assert_same_version(bucket, 3, updated, tmp_path / "now")
    assert versions(bucket) == [current(bucket)]
    assert versions(bucket, "deltas") == ["deltas/00003"]


def test_what_is_left_of_an_increment_is_told_and_not_taken_for_one(bucket, run, updated, tmp_path):
    foundrank("update", run, "--events", day(bucket.uri, 6))
    name = current(bucket)
    foundrank("update", run, "--rollback")
    bucket.files.delete_dir(f"updates/run/{name}")
    bucket.files.delete_file("updates/run/increments.jsonl")
    bucket.files.delete_file("updates/run/current.json")
    bucket.put(f"run/{name}/checkpoints/step_00000030/state.json", b"{}")
    told = foundrank("update", run, "--events", day(bucket.uri, 6))
    assert f"{run}/{name} is the rest of an increment" in told.stderr
    assert_same_version(bucket, 1, updated, tmp_path / "now")
    # One with an experiment that is none is told, and nothing is learned.
    bucket.put("run/increments/00002-01234567/experiment.yaml", b"{")
    before = bucket.get("run/increments.jsonl")
    told = foundrank("update", run, "--events", day(bucket.uri, 7), status=2)
    assert f"{run}/increments/00002-01234567" in told.stderr
    assert bucket.get("run/increments.jsonl") == before
    # So is a pointer that is not whole.
    bucket.put("run/current.json", bucket.get("run/current.json")[:-20])
    told = foundrank("update", run, "--events", day(bucket.uri, 7), status=2)
    assert f"{run}/current.json" in told.stderr


def test_going_back(feed, bucket, run, here: Here):
    assert here("update", run, "--rollback")[0] == 2  # nothing to go back to
    for number in (6, 7):
        foundrank("update", run, "--events", day(bucket.uri, number))
    first = lines(bucket)[0]
    foundrank("update", run, "--rollback")
    assert current(bucket) == first["run"]
    assert "nothing new" in foundrank("update", run, "--events", day(bucket.uri, 6)).stdout
    foundrank("update", run, "--rollback")
    assert current(bucket) == "."
    # A version is given up for the one before where it is worse on the next day, here one with labels the other way round.
    table = pq.read_table(feed / "events/feed/day=2026-01-06")
    at = table.schema.get_field_index("click")
    wrong = table.set_column(at, "click", pc.subtract(1, table["click"].cast("int8")))
    with bucket.files.open_output_stream("updates/run_wrong.parquet") as stream:
        pq.write_table(wrong.select(table.column_names), stream)
    faster = ["--set", "training.epochs=4", "--set", "training.sparse_learning_rate=0.05"]
    foundrank("update", run, "--events", f"{bucket.uri}/run_wrong.parquet", *faster)
    told = foundrank("update", run, "--events", day(bucket.uri, 7), "--max-drop", "0.01")
    assert "that one is the current version again" in told.stdout + told.stderr
    bad, good = lines(bucket)[2:]
    assert (bad["base"], good["base"], current(bucket)) == (".", ".", good["run"])


def test_a_run_that_is_updated_is_held(bucket, run, monkeypatch: pytest.MonkeyPatch):
    with holding(Claim(run, "train"), lambda error: None):
        for option in (("--rollback",), ("--events", day(bucket.uri, 6))):
            told = foundrank("update", run, *option, status=75)
            assert "another job works there" in told.stderr


def test_a_scorer_follows_by_what_has_changed_alone(feed, bucket, run, on_another_machine, monkeypatch):
    rows = pq.read_table(feed / "events/feed/day=2026-01-09")
    following = foundrank_module.load(run)
    of_scorer, before = os.environ["FOUNDRANK_CACHE"], following.score(rows, "feed")
    assert not following.refresh()

    def update(number: int) -> None:
        on_another_machine()
        foundrank("update", run, "--events", day(bucket.uri, number), "--keep", 2)
        monkeypatch.setenv("FOUNDRANK_CACHE", of_scorer)

    for number in DAYS:
        update(number)
        bucket.requests.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Scorer, "_load", None)
            assert following.refresh()
            assert not following.refresh()
        got = [request.path for request in bucket.requests if request.method == "GET" and "/run/" in request.path]
        asked = {path.partition("/run/")[2] for path in got}
        assert f"deltas/{number - 5:05d}/COMMITTED" in asked
        of_version = {name for name in asked if name.startswith("increments/")}
        assert not [name for name in of_version if ".distcp" in name or name.endswith((".parquet", ".npy"))], of_version
        assert not [name for name in asked if name.startswith("deltas/") and f"deltas/{number - 5:05d}" not in name]
        now = following.score(rows, "feed")
        assert not now.equals(before)
        before = now
        on_another_machine()
        assert now.equals(foundrank_module.load(run).score(rows, "feed"))
        monkeypatch.setenv("FOUNDRANK_CACHE", of_scorer)
    kept = [path.parent.name for path in Path(of_scorer).glob("read/s3/updates/run/deltas/*/dense.safetensors")]
    assert sorted(kept) == ["00002", "00003"]
    # What is damaged in the cache is fetched again; what is in the bucket is told, and the scorer stays as it is.
    update(9)
    key = "run/deltas/00004/dense.safetensors"
    good = bucket.get(key)
    bucket.put(key, good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(UserError, match=r"deltas/00004/dense\.safetensors: is damaged"):
        following.refresh()
    assert following.score(rows, "feed").equals(before)
    bucket.put(key, good)
    assert following.refresh()
    foundrank("update", run, "--rollback")
    assert following.refresh()
    assert following.score(rows, "feed").equals(before)
    # A delta without its mark is none: all of the version is read.
    update(9)
    bucket.files.delete_file("updates/run/deltas/00005/COMMITTED")
    with monkeypatch.context() as patched:
        patched.setattr("foundrank.scorer.take_weights", None)
        assert following.refresh()
    assert following.score(rows, "feed").equals(foundrank_module.load(run).score(rows, "feed"))
