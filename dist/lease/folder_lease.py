"""The lease of a folder in a file system: a file in it that its holder has locked."""

import errno
import fcntl
import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ...data.errors import UserError
from .holder import STALE, UNNAMED, Holder, Lost, tell_taken_over, written

_MOST = 1 << 16  # bytes of a lease that are read
_ATTEMPTS = 100  # to open a file that others make and remove
_TRIES, _PAUSE = 3, 0.1  # seconds: who only looks at a lease locks it for a moment, too
_SETTLE = 0.5  # seconds until another's write would show where there are no locks


class FolderLease:
    """One folder's lease, which this process takes, renews and gives back.

    The file is there only as long as it is held, or where its holder died. Processes that this one forks do not keep the lock.
    """

    def __init__(self, folder: Path, name: str, me: Holder):
        """Args: the folder, the lease's name in it, who takes it."""
        self._folder, self._path, self._me = folder, folder / name, me
        self._descriptor: int | None = None
        self._made: list[Path] = []

    def take(self) -> Holder | None:
        """Takes the lease; the other job where one has it.

        Raises:
            OSError: nothing can be written there.
            UserError: there is a folder of that name.
        """
        self._made = [path for path in (self._folder, *self._folder.parents) if not os.path.lexists(path)]
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError):  # another job has just given it back, and its folder with it
                self._folder.mkdir(parents=True, exist_ok=True)
                holder = self._try()
                if holder is not None or self._descriptor is not None:
                    return holder
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self._folder))

    def beat(self) -> None:
        """Shows that this job is still at work.

        Raises:
            Lost: it has the folder no longer.
        """
        try:
            found = written(_content(self._path))
            if found is None or found.nonce == self._me.nonce:
                os.utime(self._path)
                return
        except FileNotFoundError:
            found = None
        if self._descriptor is not None:  # else it has just been given back
            raise Lost(found)

    def release(self) -> None:
        """Gives the lease back; and removes what was made for it, where nothing has come into it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                found = written(_content(self._path))
                if found is not None and found.nonce == self._me.nonce:
                    self._path.unlink()  # while it is locked: who waits for it looks whether it is still there
            _open.discard(descriptor)
            os.close(descriptor)
        with suppress(OSError):  # something is in it
            while self._made:
                self._made.pop(0).rmdir()

    def _try(self) -> Holder | None:
        """Takes the lease, or says who has it; does neither where it was removed meanwhile."""
        descriptor = _opened(self._path)
        _open.add(descriptor)
        try:
            locked = _lock(descriptor, fcntl.LOCK_EX)
            found = written(os.pread(descriptor, _MOST, 0))
            if locked is False:
                return found or UNNAMED
            if not _is(self._path, descriptor):
                return None
            if found is not None and (holder := self._still_there(found, descriptor, locked is True)) is not None:
                return holder
            if not os.access(self._path, os.W_OK):  # another user's, who is gone
                self._path.unlink()
                return None
            self._write(descriptor)
            if locked is None:
                time.sleep(_SETTLE)
                after = written(_content(self._path))
                if after is not None and after.nonce != self._me.nonce:
                    return after
            self._descriptor = descriptor
            return None
        finally:
            if self._descriptor is None:
                _open.discard(descriptor)
                os.close(descriptor)

    def _write(self, descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, replace(self._me, device=os.fstat(descriptor).st_dev).content(), 0)
        os.fsync(descriptor)

    def _still_there(self, found: Holder, descriptor: int, locked: bool) -> Holder | None:
        """The holder that a file names, if it has not ended; ``locked`` says whether this process has the file locked now."""
        gone = _is_gone(found, self._me, descriptor, locked)
        if gone is None:
            silent = self._silent(descriptor)
            gone = silent > STALE
            if gone:
                tell_taken_over(self._folder, found, silent)
        return None if gone else found

    def _silent(self, descriptor: int) -> float:
        """Seconds since the last sign of life, by the clock of the folder's disk."""
        now = self._path.with_name(f"{self._path.name}.{self._me.nonce}")
        try:
            now.touch(exist_ok=False)
            return now.stat().st_mtime - os.fstat(descriptor).st_mtime
        finally:
            now.unlink(missing_ok=True)


def holder_in(folder: Path, name: str, me: Holder) -> Holder | None:
    """The job that holds a folder now, as far as one can see; ``me`` asks."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        locked = _lock(descriptor, fcntl.LOCK_SH)
        found = written(os.pread(descriptor, _MOST, 0))
        if locked is False or found is None:
            return found
        gone = _is_gone(found, me, descriptor, locked is True)
        silent = time.time() - os.fstat(descriptor).st_mtime > STALE
        return None if gone or (gone is None and silent) else found
    finally:
        os.close(descriptor)


_open: set[int] = set()
"""Descriptors of leases, which no child of this process is to keep."""


def _close_in_child() -> None:
    while _open:
        os.close(_open.pop())


os.register_at_fork(after_in_child=_close_in_child)


def _is_gone(found: Holder, me: Holder, descriptor: int, locked: bool) -> bool | None:
    """As of `Holder.is_gone`, of one that this process could lock the file of, or not."""
    same_kernel = found.same_machine(me) and found.device == os.fstat(descriptor).st_dev
    return True if locked and same_kernel else found.is_gone(me)  # it would still have the file locked


def _opened(path: Path) -> int:
    """The file of a lease, made where there is none.

    Raises:
        UserError: it is a folder.
    """
    flags = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    if path.is_symlink():
        path.unlink(missing_ok=True)
    try:
        return os.open(path, os.O_RDWR | flags, 0o666)
    except PermissionError:
        if not os.path.lexists(path):
            raise
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)  # another user's
    except IsADirectoryError as error:
        raise UserError(path, "is a folder, where a job notes that it is at work", "Remove it.") from error


def _lock(descriptor: int, kind: int) -> bool | None:
    """Whether a file could be locked; None where the file system has no locks."""
    for tries in range(_TRIES):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if tries + 1 < _TRIES:
                time.sleep(_PAUSE)
        except OSError:
            return None
    return False


def _content(path: Path) -> bytes:
    """What another process, on another host perhaps, has written by now: a file is opened anew for that."""
    with path.open("rb") as stream:
        return stream.read(_MOST)


def _is(path: Path, descriptor: int) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
