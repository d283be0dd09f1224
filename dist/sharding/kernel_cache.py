"""Compiled libraries in the user's cache: loaded only if they are this user's, whole, and nobody else can write them."""

import ctypes
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...data.storage.local_writes import replace_file

_SUM_BYTES = hashlib.sha256().digest_size  # a file ends with the checksum of what is before it


def library(name: str, make: Callable[[Path], None]) -> ctypes.CDLL:
    """A library of the cache; made, and kept there if that can be done, where the cache has no sound one.

    Args:
        name: of its file.
        make: writes the library to a path.

    Raises:
        Whatever ``make`` raises.
    """
    folder = _folder(name)
    if folder is not None and (kept := _load(folder / name)) is not None:
        return kept
    with tempfile.TemporaryDirectory() as temporary:  # mode 0700
        fresh = Path(temporary) / name
        make(fresh)
        if folder is not None:
            content = fresh.read_bytes()
            with suppress(OSError):  # a home that cannot be written: made again next time
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                replace_file(folder / name, content + hashlib.sha256(content).digest())
                os.chmod(folder / name, 0o600)
                if (kept := _load(folder / name)) is not None:
                    return kept
        return ctypes.CDLL(str(fresh))


def _folder(name: str) -> Path | None:
    """Where libraries are kept, perhaps not there yet; None where others could put some. What they could have put is removed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # as the specification says of others
        try:
            cache = Path.home() / ".cache"
        except RuntimeError:  # a user without a name
            return None
    folder = cache / "foundrank"
    try:
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not _is_ours_alone(status):
            os.chmod(folder, 0o700)
            (folder / name).unlink(missing_ok=True)
            status = folder.lstat()
    except FileNotFoundError:
        return folder
    except OSError:
        return None
    return folder if stat.S_ISDIR(status.st_mode) and _is_ours_alone(status) else None


def _load(path: Path) -> ctypes.CDLL | None:
    """The library of a file; None where that is missing, damaged, or one that somebody else may have written."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or not _is_ours_alone(status):
            return None
        content = file.read()
        if hashlib.sha256(content[:-_SUM_BYTES]).digest() != content[-_SUM_BYTES:]:
            return None
    with suppress(OSError):
        return ctypes.CDLL(str(path))
    return None


def _is_ours_alone(status: os.stat_result) -> bool:
    """Whether a file or folder is this user's or the system's, and others cannot write it."""
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
