"""How the tasks of one node find the file in which their ranks meet, which nobody has started together.

A task that waits has locked a file with a number of its own; rank 0 answers each number with the name of a new file. So
neither what a killed task has left nor a task of the command before, in the same step, is taken for one that waits.
"""

import fcntl
import os
import shutil
import stat
import time
import uuid
from contextlib import suppress
from pathlib import Path

from ...data.errors import UserError
from ...data.storage.local_writes import replace_file
from .step import MEETING

_PATIENCE = 600.0  # seconds until all tasks must have come
_PAUSE = 0.05


def met_at() -> str | None:
    """The file in which the ranks of this step meet, once all of them have come; None where they do not meet in one.

    Raises:
        UserError: not all of them come, or the folder is somebody else's.
    """
    place = os.environ.get(MEETING)
    if place is None:
        return None
    folder, rank, ranks = Path(place), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return _answered(folder, ranks) if rank == 0 else _asked(folder, rank)


def leave_meeting() -> None:
    """Removes the folder, by rank 0; the ranks have met."""
    place = os.environ.get(MEETING)
    if place is not None and os.environ.get("RANK") == "0":
        shutil.rmtree(place, ignore_errors=True)


def _answered(folder: Path, ranks: int) -> str:
    """Rank 0's part: waits for all others, and tells each where to meet."""
    _make(folder)
    store, missing = str(folder / f"store-{uuid.uuid4().hex}"), set(range(1, ranks))
    end = time.monotonic() + _PATIENCE
    while missing:
        for rank in sorted(missing):
            if (number := _waits(folder / f"rank{rank}")) is not None:
                replace_file(folder / f"answer{rank}", f"{number} {store}".encode())
                missing.discard(rank)
        if missing:
            _pause(end, folder, f"tasks {', '.join(map(str, sorted(missing)))} have not come")
    return store


def _waits(file: Path) -> str | None:
    """The number of a task that waits; None where it does not, or not any more."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return os.pread(descriptor, 64, 0).decode() or None
    finally:
        os.close(descriptor)


def _asked(folder: Path, rank: int) -> str:
    """Another rank's part: waits for the answer of rank 0."""
    number, file, answer = uuid.uuid4().hex, folder / f"rank{rank}", folder / f"answer{rank}"
    end = time.monotonic() + _PATIENCE
    descriptor: int | None = None
    try:
        while True:
            if descriptor is None or not _is(file, descriptor):  # rank 0 may just have ended the command before
                _close(descriptor)
                descriptor = _lock(folder, file, number)
            with suppress(FileNotFoundError):
                to, _, store = answer.read_text().partition(" ")
                if to == number:
                    return store
            _pause(end, folder, "task 0 has not come")
    finally:
        _close(descriptor)


def _lock(folder: Path, file: Path, number: str) -> int | None:
    _make(folder)
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # rank 0 looks, or this task's command before has not quite ended
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, number.encode(), 0)
    return descriptor


def _make(folder: Path) -> None:
    """The folder, which this user alone can enter.

    Raises:
        UserError: it is there, and somebody else's.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return  # rank 0 of the command before has just removed it
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UserError(
            folder, "is not a folder that you alone can enter", "Remove it, or set TMPDIR to another place."
        )


def _pause(end: float, folder: Path, what: str) -> None:
    if time.monotonic() > end:
        told = f"are to meet there, and {what} within {_PATIENCE:g} s"
        remedy = "Start all tasks with the same command and TMPDIR, or one task with -p N, or ranks with torchrun."
        raise UserError(f"{folder}: the tasks of this step", told, remedy)
    time.sleep(_PAUSE)


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
