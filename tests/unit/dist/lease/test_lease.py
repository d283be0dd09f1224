"""A folder is one job's at a time, whoever asks for it, and free when that job is gone."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import pytest

from foundrank.data.errors import UserError
from foundrank.dist.lease import folder_lease, lease
from foundrank.dist.lease.holder import STALE, myself, written
from foundrank.dist.lease.lease import BESIDE_TRAINING, Claim, Held, holder_of, holding, release_all

from ....s3 import Bucket, s3_bucket

HOLD = """
import sys, time
from foundrank.dist.lease.lease import Claim, holding
with holding(Claim(sys.argv[1], "train"), print):
    print("held", flush=True)
    time.sleep(100)
"""


def other(folder: object, **environment: str) -> subprocess.Popen[str]:
    """Another process, which holds a folder by now."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def hold(folder: object, name: str = lease.LEASE) -> ExitStack:
    """Holds a folder until it is closed."""
    held = ExitStack()
    held.enter_context(holding(Claim(str(folder), "score", name), pytest.fail))
    return held


def left_behind(path: Path, age: float = 0.0, **changes: object) -> None:
    """A lease whose holder is gone, and was on another machine if nothing else is said."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(replace(myself("train"), host="n7", machine="another", **changes).content())
    if age:
        os.utime(path, (time.time() - age, time.time() - age))


def test_a_folder_is_held_by_one_job_and_then_free_as_if_nothing_had_been(tmp_path):
    folder = tmp_path / "new" / "run"
    with hold(folder):
        with pytest.raises(
            Held, match=rf"run: another job works there: `foundrank score` on host .*, process {os.getpid()}, since 2"
        ):
            hold(folder)
        told = holder_of(Claim(folder, "train"))
        assert told is not None
        assert told.command == "score"
        assert os.listdir(folder) == [".lease"]
        with hold(folder, BESIDE_TRAINING):  # a run may be measured while it is trained
            pass
    assert holder_of(Claim(folder, "train")) is None
    assert not (tmp_path / "new").exists()
    folder.mkdir(parents=True)
    (folder / "kept").touch()
    hold(folder).close()
    assert os.listdir(folder) == ["kept"]


def test_what_a_killed_job_leaves_is_free_at_once_and_what_a_stopped_one_holds_is_not(tmp_path):
    process = other(tmp_path)
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(Held, match=f"process {process.pid},"):
        hold(tmp_path)
    process.kill()
    process.wait()
    assert (tmp_path / ".lease").exists()
    assert holder_of(Claim(tmp_path, "score")) is None
    hold(tmp_path).close()
    assert not list(tmp_path.iterdir())


def test_children_do_not_keep_a_folder(tmp_path):
    held = hold(tmp_path)
    child = os.fork()
    if not child:
        time.sleep(30)
        os._exit(0)
    try:
        held.close()
        hold(tmp_path).close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("locks", [True, False])
def test_a_job_on_another_machine_is_there_as_long_as_it_shows_itself(tmp_path, monkeypatch, capsys, locks):
    """Also where hosts do not see each other's locks, or there are none."""
    monkeypatch.setattr(folder_lease, "_SETTLE", 0.0)
    if not locks:
        monkeypatch.setattr(folder_lease, "_lock", lambda *_: None)
    left_behind(tmp_path / ".lease", STALE / 2)
    with pytest.raises(Held, match="on host n7"):
        hold(tmp_path)
    assert os.listdir(tmp_path) == [".lease"]
    left_behind(tmp_path / ".lease", STALE + 10)
    with hold(tmp_path):
        assert "on host n7" in (said := capsys.readouterr().out)
        assert "has not been heard of for" in said
        with pytest.raises(Held):
            hold(tmp_path)


def test_without_locks_a_dead_process_of_this_machine_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_lease, "_lock", lambda *_: None)
    monkeypatch.setattr(folder_lease, "_SETTLE", 0.0)
    me = myself("train")
    (tmp_path / ".lease").write_bytes(replace(me, nonce="other").content())
    with pytest.raises(Held):
        hold(tmp_path)
    (tmp_path / ".lease").write_bytes(
        replace(me, nonce="other", started=me.started - 100).content()
    )  # its number is ours now
    hold(tmp_path).close()


@pytest.mark.parametrize(
    ("job", "attempt", "taken"),
    [
        ("Slurm job 7_1", "1.0", True),  # requeued
        ("Slurm job 7_1", "0.0", False),  # another step of it, perhaps
        ("Slurm job 7_2", "1.0", False),
        ("", "", False),
    ],
)
def test_a_requeued_job_takes_what_it_had(tmp_path, monkeypatch, job, attempt, taken):
    left_behind(tmp_path / ".lease", job="Slurm job 7_1", attempt="0.0")
    if job:
        monkeypatch.setenv("SLURM_JOB_ID", "9")
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", job[-1])
        monkeypatch.setenv("SLURM_RESTART_COUNT", attempt[0])
    if taken:
        hold(tmp_path).close()
    else:
        with pytest.raises(Held, match="Slurm job 7_1"):
            hold(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": "x"}', b"\xff"])
def test_a_lease_that_names_nobody_is_nobodys(tmp_path, content):
    (tmp_path / ".lease").write_bytes(content)
    hold(tmp_path).close()


def test_a_link_in_the_place_of_a_lease_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lease").symlink_to(tmp_path / "mine")
    hold(tmp_path / "run").close()
    assert (tmp_path / "mine").read_text() == "mine"


def test_what_cannot_be_written_is_told_by_the_job_itself(tmp_path):
    (tmp_path / "file").touch()
    hold(tmp_path / "file").close()
    hold(tmp_path / "file/below").close()
    hold("/proc/foundrank").close()
    (tmp_path / ".lease").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        hold(tmp_path)


def test_a_job_that_loses_its_folder_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "_intervals", lambda: repeat(0.01))
    lost: list[UserError] = []
    told = threading.Event()

    def take_note(error: UserError) -> None:
        lost.append(error)
        told.set()

    with holding(Claim(tmp_path, "train"), take_note):
        left_behind(tmp_path / ".lease", nonce="other")
        assert told.wait(20)
    assert isinstance(lost[0], Held)
    assert "was taken by another job" in str(lost[0])
    told.clear()
    with holding(Claim(tmp_path / "gone", "train"), take_note):
        (tmp_path / "gone/.lease").unlink()
        assert told.wait(20)
    assert not isinstance(lost[1], Held)
    assert "was removed" in str(lost[1])
    assert written((tmp_path / ".lease").read_bytes()) is not None  # the other's, which is not this one's to give back


def test_a_process_that_ends_without_unwinding_gives_back_what_it_has(tmp_path):
    with hold(tmp_path / "run"):
        release_all()
        assert not (tmp_path / "run").exists()


RACE = """
import os, sys, time
from foundrank.dist.lease.lease import Claim, Held, holding
folder, inside, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
got = 0
while got < times:
    try:
        with holding(Claim(folder, "train"), print):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where another is inside
            time.sleep(0.001)
            os.unlink(inside)
            got += 1
    except Held:
        pass
"""


def test_of_many_that_want_a_folder_never_two_have_it(tmp_path):
    command = [sys.executable, "-c", RACE, str(tmp_path / "run"), str(tmp_path / "inside"), "25"]
    racing = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(one.communicate(timeout=120)[1], one.returncode) for one in racing] == [("", 0)] * 4
    assert not list(tmp_path.rglob("*lease*"))


@pytest.fixture(scope="module")
def bucket():
    with s3_bucket("leases") as started:
        yield started


def test_in_an_object_store_two_never_stay(bucket: Bucket, monkeypatch):
    uri = f"{bucket.uri}/run"
    with hold(uri):
        with pytest.raises(Held, match=r"s3://leases/run: another job works there: `foundrank score`"):
            hold(uri)
        assert len(bucket.keys("run")) == 1
        told = holder_of(Claim(uri, "train"))
        assert told is not None
        assert told.pid == os.getpid()
    assert bucket.keys("run") == []
    process = other(uri)
    process.kill()
    process.wait()
    hold(uri).close()  # it was of this machine, and is no more
    bucket.put("run/.leases/n7", replace(myself("train"), nonce="n7", host="n7", machine="another").content())
    with pytest.raises(Held, match="on host n7"):
        hold(uri)
    monkeypatch.setattr("foundrank.dist.lease.object_lease.STALE", -1)
    hold(uri).close()
    assert bucket.keys("run") == []


def test_a_job_that_another_takes_for_dead_in_an_object_store_is_told(bucket: Bucket, monkeypatch):
    monkeypatch.setattr(lease, "_intervals", lambda: repeat(0.01))
    uri, told = f"{bucket.uri}/lost", threading.Event()
    with holding(Claim(uri, "train"), lambda error: told.set()):
        bucket.put("lost/.leases/n7", replace(myself("train"), nonce="n7", machine="another").content())
        assert told.wait(20)
    told.clear()
    bucket.files.delete_file("leases/lost/.leases/n7")
    with holding(Claim(uri, "train"), lambda error: told.set()):
        [key] = bucket.keys("lost")
        # Removed between a sign of life's look and its writing, it would be there again.
        for _ in range(50):
            if bucket.keys("lost") and not told.is_set():
                bucket.files.delete_file(f"leases/lost/{key}")
            if told.wait(0.4):
                break
        assert told.is_set()
