"""Whether a file is the one that was read before: the same size and the same checksum.

A name says nothing, nor does the time of writing, which a copy keeps and a rewrite may repeat. What a job has read is
therefore written down with a checksum of its bytes. Local files are not read again for it while size, time of writing, time
of change (which no program can set) and inode are those that were noted, and were seconds old by then.
"""

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import zip_longest
from typing import Annotated, Any

from pydantic import Field

from ..machine.limits import cpus
from . import storage
from .file_systems import endpoint, is_uri, told
from .json_documents import Shape

_AT_ONCE = 8  # files; hashing leaves the interpreter free
_SETTLED = 10 * 10**9  # nanoseconds: coarser clocks of file systems are finer than that
_BLOCK = 1 << 22

_Count = Annotated[int, Field(ge=0)]


class FileIdentity(Shape):
    """A file as it was read.

    Attributes:
        file: where it was; no part of what it is.
        bytes: its size.
        checksum: SHA-256 of its bytes, or what an object store says in its place.
        stat: times of writing and of change in nanoseconds, and inode; nothing where they could not be relied on.
    """

    file: str
    bytes: _Count
    checksum: str = ""
    stat: list[int] = Field(default_factory=list)


def identities(files: Sequence[str], before: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """What files are, as `FileIdentity`s.

    Args:
        files: their locations.
        before: what was noted of the same files, to spare reading those that cannot have changed since.
    """
    noted = {held["file"]: held for held in before}
    with ThreadPoolExecutor(min(_AT_ONCE, cpus())) as pool:
        return list(pool.map(lambda file: _identity(file, noted.get(file, {})), files))


def same_content(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    """Whether files are the same, in this order, wherever they are."""
    return [content(file) for file in one] == [content(file) for file in other]


def changed_content(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> str | None:
    """The first file, as it is named now, in which two sequences of them differ; None where they are the same."""
    for one, other in zip_longest(old, new, fillvalue={}):
        if content(one) != content(other):
            return str((other or one)["file"])
    return None


def continued(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> tuple[list[int | None], list[str]]:
    """What has become of some files: where each of ``old`` is among ``new``, and what is wrong, in words, where it is not there as it was.

    A file is known by its name; one whose name is gone, by its content, for a folder may have been moved.
    """
    at = {str(file["file"]): position for position, file in enumerate(new)}
    names = {str(file["file"]) for file in old}
    moved: dict[tuple[Any, ...], list[int]] = {}
    for position, file in enumerate(new):
        if str(file["file"]) not in names:
            moved.setdefault(content(file), []).append(position)
    found: list[int | None] = []
    wrong = []
    for file in old:
        name = str(file["file"])
        position = at[name] if name in at else next(iter(moved.get(content(file), [])), None)
        if position is None:
            wrong.append(f"{name} is no longer there")
        elif content(new[position]) != content(file):
            wrong.append(f"{name} was written again")
            position = None
        elif name not in at:
            moved[content(file)].remove(position)
        found.append(position)
    return found, wrong


def untouched(file: str, noted: Mapping[str, Any]) -> bool:
    """Whether a file cannot have changed since it was noted, as far as can be told without reading it."""
    if not noted.get("stat") or is_uri(file):
        return False
    with suppress(FileNotFoundError):
        return _stat(file) == noted["stat"]
    return False


def fingerprint(files: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of what files hold, whatever they are called and in whatever order."""
    contents = sorted(f"{size} {checksum}" for size, checksum in map(content, files))
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()


def content(file: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a file holds, to be told from what others hold: its size and checksum."""
    return file.get("bytes"), file.get("checksum")


def _identity(file: str, noted: Mapping[str, Any]) -> dict[str, Any]:
    if is_uri(file):
        (size,) = storage.sizes([file])
        return {"file": file, "bytes": size, "checksum": _tag(file) or _sum(file)}
    now = time.time_ns()
    stat = _stat(file)
    held = {"file": file, "bytes": os.path.getsize(file), "stat": stat if max(stat[:2]) < now - _SETTLED else []}
    if stat == noted.get("stat") and noted.get("bytes") == held["bytes"] and noted.get("checksum"):
        return held | {"checksum": noted["checksum"]}
    return held | {"checksum": _sum(file)}


def _stat(file: str) -> list[int]:
    status = os.stat(file)
    return [status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _tag(uri: str) -> str:
    """What an object store calls this very content; empty where it does not."""
    with told(uri):
        found = {str(name): value for name, value in storage.handle(uri, endpoint()).metadata().items()}
    tag = found.get("ETag", b"")
    return f"ETag {tag.decode() if isinstance(tag, bytes) else tag}" if tag else ""


def _sum(file: str) -> str:
    digest = hashlib.sha256()
    with told(file), storage.open_input(file) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
