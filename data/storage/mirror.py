"""Local folders that stand for folders of an object store: fetched before they are read, published when they are written.

A mirror is at ``<cache>/<use>/<scheme>/<bucket>/<path>``, so that either place follows from the other. Jobs read in one
tree and write in another (``use``), so that a job that reads never meets what another is about to write. The bucket is what
counts: fetching makes a mirror what its original is, so a cache may be deleted whenever no job runs. For folders that are
no mirrors, these functions do nothing.
"""

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from ..errors import UserError
from . import storage
from .file_systems import Location, is_uri
from .storage import Stamp

Use = Literal["read", "work"]

_AT_ONCE = 8  # files
_NO_BUCKET = "-"  # stands for none, as in file:///folder
_TEMPORARY = re.compile(r"(^|/)\.(?!metadata$)")  # hidden, but for what torch.distributed.checkpoint calls .metadata


def mirrored(location: Location, use: Use) -> Path:
    """The local folder of a location: for a URI its mirror, which need not be there yet.

    Raises:
        UserError: the URI leads out of its bucket.
    """
    if not is_uri(location):
        return Path(location)
    scheme, _, rest = str(location).partition("://")
    bucket, _, path = rest.partition("/")
    if ".." in path.split("/"):
        raise UserError(location, "has '..' in it", "Write the location without.")
    if (root := _root()) is None:
        raise UserError(
            "HOME", "is not set, and copies of what is in object stores need a place", "Set FOUNDRANK_CACHE."
        )
    return root / use / scheme / (bucket or _NO_BUCKET) / path


def origin(path: Path) -> str | None:
    """The URI that a mirror, or something in it, stands for; None for other paths."""
    root = _root()
    if root is None or not path.is_absolute() or not path.is_relative_to(root):
        return None
    _, scheme, *rest = (*path.relative_to(root).parts, "", "")
    return f"{scheme}://{'/'.join(part for part in rest if part)}".replace(f"://{_NO_BUCKET}/", ":///")


def shown(text: object) -> str:
    """A text with the URIs in place of their mirrors."""
    root = _root()
    if root is None:
        return str(text)
    named = re.sub(rf"{re.escape(str(root))}/(?:read|work)/([^/]+)/", r"\1://", str(text))
    return named.replace(f"://{_NO_BUCKET}/", ":///")


def fetch(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Makes a mirror hold the files its original holds, and no others. One process of a machine does it, others wait.

    Args:
        folder: a mirror, or a folder in one.
        wanted: says which files, by their names in the folder; others are left as they are.

    Raises:
        StorageError: the object store cannot be reached or refuses.
        UserError: the cache folder's disk is full or cannot be written.
    """
    uri = origin(folder)
    if uri is None:
        return
    with _disk_errors(folder), _alone(folder):
        while True:  # until nothing is missing: the original may be replaced while it is copied
            there = {name: stamp for name, stamp in storage.listing(uri).items() if _counts(name) and wanted(name)}
            here = {name: stamp_of(folder / name) for name in files_in(folder) if wanted(name)}
            for name in here.keys() - there.keys():
                (folder / name).unlink()
            missing = [name for name, stamp in there.items() if here.get(name) != stamp]
            if not missing:
                return

            def copy(name: str, there: dict[str, Stamp] = there) -> None:
                with suppress(FileNotFoundError):
                    storage.download(storage.join(uri, name), folder / name, there[name])

            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(copy, missing))


def fetch_again(path: Path) -> bool:
    """Fetches a file of a mirror anew, whatever is there; False if it is in no mirror."""
    if origin(path) is None:
        return False
    path.unlink(missing_ok=True)
    fetch(path.parent)
    return True


def publish(path: Path, place: Path | None = None, before: Stamp | None = None) -> None:
    """Writes a file of a mirror to its original, whole or not at all.

    Args:
        path: of the file.
        place: in the mirror, if the file is not there yet.
        before: stamp of what it replaces; the new one will be another, so that no copy is taken for one of the new file.

    Raises:
        StorageError: the object store cannot be reached or refuses.
    """
    uri = origin(place or path)
    if uri is not None:
        stamp = storage.upload(path, uri)
        while stamp == before:  # in the same second
            time.sleep(0.2)
            stamp = storage.upload(path, uri)
        os.utime(path, ns=(stamp[1], stamp[1]))  # now it is a copy


def publish_changed(folder: Path, names: Sequence[str]) -> None:
    """Publishes those files of a mirror that are not what the original has, in this order."""
    uri = origin(folder)
    if uri is not None:
        there = storage.listing(uri)
        for name in names:
            if stamp_of(folder / name) != there.get(name):
                publish(folder / name, before=there.get(name))


def remove_original(path: Path) -> None:
    """Removes what a file or folder of a mirror stands for, if it is there."""
    uri = origin(path)
    if uri is not None:
        storage.remove(uri)


def files_in(folder: Path) -> list[str]:
    """Names of the files anywhere in a folder, temporary ones left out."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if _counts(name))


def stamp_of(path: Path) -> Stamp:
    """Size and time of a local file."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _counts(name: str) -> bool:
    return not _TEMPORARY.search(name)


def _root() -> Path | None:
    """Where mirrors are; None for a user without a home."""
    with suppress(RuntimeError):
        return Path(os.environ.get("FOUNDRANK_CACHE") or "~/.cache/foundrank").expanduser().absolute()
    return None


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            folder,
            f"cannot be copied to this machine: {error.strerror or error}",
            f"Free some space in {_root()}, or name a folder on another disk with FOUNDRANK_CACHE.",
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits for other processes of this machine that fetch the same folder."""
    root = _root()
    assert root is not None  # the folder is in it
    lock = root / "locks" / hashlib.sha256(str(folder).encode()).hexdigest()
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w", encoding="utf-8") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
