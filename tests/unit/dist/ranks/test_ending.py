"""What is said of an error, and the status that a command leaves with."""

import errno
import os
import subprocess
import sys

import pytest

from foundrank.data.errors import UserError
from foundrank.dist.ranks import ending
from foundrank.dist.ranks.launch import STORE


class Left(Exception):
    pass


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch):
    def leave(status: int):
        raise Left(status)

    monkeypatch.setattr(ending.os, "_exit", leave)
    monkeypatch.setattr(ending, "_clear_up", lambda: None)
    monkeypatch.setattr(ending, "_heed_no_more", lambda: None)  # it is pytest's own process
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("shop.yaml", "is odd", "Mend it."), "error: shop.yaml\n  is odd.\n  Mend it.\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/runs/a"), "error: /runs/a\n  cannot be written (No space"),
        (OSError(errno.EROFS, "Read-only file system"), "error: the disk\n  cannot be written (Read-only"),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "error: /a\n  cannot be used (Permission denied)"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/b"), "error: /b\n  cannot be used (File name too long)"),
    ],
)
def test_what_its_user_can_mend_is_one_paragraph(capsys: pytest.CaptureFixture[str], error: Exception, words: str):
    with pytest.raises(Left, match="2"):
        ending.end_failed(error)
    assert capsys.readouterr().err.startswith(words)


def test_a_name_that_the_locale_cannot_write_is_told(monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(ending.sys, "getfilesystemencoding", lambda: "ascii")
    with pytest.raises(Left, match="2"):
        ending.end_failed(UnicodeEncodeError("ascii", "caf\u00e9", 3, 4, "not in range"))
    assert "Set PYTHONUTF8=1." in capsys.readouterr().err


def test_output_that_nobody_takes_is_no_fault(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(Left, match="141"):
        ending.end_failed(BrokenPipeError())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [ValueError("of ours"), PermissionError(errno.EACCES, "of no file")])
def test_anything_else_is_traced(capsys: pytest.CaptureFixture[str], error: Exception):
    with pytest.raises(SystemExit, match="1"):
        ending.end_failed(error)
    assert str(error) in capsys.readouterr().err


WORK = """
import os, signal, sys, time
from concurrent.futures import ThreadPoolExecutor
from foundrank.dist.ranks import ending
from foundrank.dist.ranks.launch import STORE
ending.end_on_signals()
ending._PATIENCE = 0.5
asked = getattr(signal, sys.argv[2])

def ask():
    for _ in range(3):  # as timeout and Slurm do
        os.kill(os.getpid(), asked)

try:
    try:
        if sys.argv[1] == "works":
            ask()
        elif sys.argv[1] == "waits for a thread":
            with ThreadPoolExecutor(1) as pool:
                pool.submit(time.sleep, 60)
                ask()
        elif sys.argv[1] == "swallows it":
            try:
                ask()
            except SystemExit:
                time.sleep(60)
        elif sys.argv[1] == "has failed":
            raise ZeroDivisionError
        raise SystemExit(0)
    except Exception as error:
        ending.end_failed(error)
except SystemExit as done:
    if sys.argv[1] == "is done":
        ending.end_on_signals()
        usual = ending._clear_up
        ending._clear_up = lambda: (usual(), ask())
    ending.end(done)
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGUSR1"])
@pytest.mark.parametrize(
    ("moment", "status"),
    [("works", 75), ("waits for a thread", 75), ("swallows it", 75), ("is done", 0), ("has failed", 1)],
)
def test_a_command_that_is_asked_to_stop_leaves_soon_with_a_status_of_its_own(moment: str, status: int, number: str):
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    command = [sys.executable, "-c", WORK, moment, number]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == status, done.stderr
    if status == 75:
        assert done.stderr == f"{number}: stopping; run the same command again to resume\n"


def test_a_rank_leaves_with_the_same_status():
    command = [sys.executable, "-c", WORK, "works", "SIGTERM"]
    environment = os.environ | {"RANK": "1", "WORLD_SIZE": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (75, "")


def test_ranks_that_were_started_together_tell_once(monkeypatch, tmp_path, capsys: pytest.CaptureFixture[str]):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), (STORE, str(tmp_path / "store"))):
        monkeypatch.setenv(name, value)

    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)
    for _ in range(2):
        with pytest.raises(SystemExit) as left:
            ending.end_failed(UserError("a file", "is bad", "Mend it."))
        assert left.value.code == 2
    assert capsys.readouterr().err.count("error: a file") == 1
