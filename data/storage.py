"""Files by path or by URI: reading, listing, and writing whole.

A *location* is a local path, or a URI that pyarrow.fs understands: ``s3://bucket/events/*.parquet``, and ``gs://``,
``abfss://``, ``hdfs://``, ``file://`` or ``fsspec+NAME://``. This module and `file_systems` are the only ones that know of
file systems.
"""

import errno
import glob
import os
import posixpath
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from .errors import UserError
from .file_systems import Location, endpoint, is_uri, located, refuse_secrets, told
from .local_files import open_new, replace_file

Stamp = tuple[int, int]
"""Size in bytes, and time of writing in nanoseconds, of whole seconds: where both are the same, so is the file."""

_BLOCK, _AT_ONCE = 1 << 25, 8  # bytes, and how many such a download asks for at a time
_OBJECT_STORES = ("s3", "gs", "gcs", "abfs", "abfss")  # an object appears when it is whole; elsewhere files are renamed


def join(folder: Location, *names: str) -> str:
    """The location of something in a folder."""
    return posixpath.join(str(folder), *names) if is_uri(folder) else str(Path(folder, *names))


def parent(location: Location) -> str:
    """The location of the folder something is in; absolute."""
    return posixpath.dirname(str(location)) if is_uri(location) else str(Path(location).resolve().parent)


def resolved(location: str, folder: Location) -> str:
    """A location that may be relative to a folder, as an absolute one."""
    if is_uri(location):
        return location.rstrip("/")
    path = Path(location).expanduser()
    if path.is_absolute() or not is_uri(folder):
        return os.path.normpath(Path(folder) / path)
    scheme, _, rest = str(folder).partition("://")
    return f"{scheme}://{posixpath.normpath(posixpath.join(rest, location))}"


def expand_glob(pattern: str) -> list[str]:
    """Files a pattern names, sorted. Hidden files and those starting with ``_`` (markers) are left out.

    Raises:
        StorageError: the object store cannot be reached or refuses.
    """
    if is_uri(pattern):
        refuse_secrets(pattern, "the location")
        scheme, _, rest = pattern.partition("://")
        authority, *parts = rest.split("/")
        with told(pattern):
            files = list(_matches(f"{scheme}://{authority}/", [part for part in parts if part]))
    else:
        files = [
            file for file in glob.glob(pattern, recursive=True) if os.path.isfile(file)
        ]  # a file is no "a.parquet/"
    return sorted({file for file in files if not posixpath.basename(file).startswith(("_", "."))})


def _matches(folder: str, parts: Sequence[str]) -> Iterator[str]:
    """Files below a folder of a URI that fit a pattern; only folders that can hold one are listed."""
    plain = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    folder, parts = join(folder, *parts[:plain]), parts[plain:]
    if not parts:
        system, path = located(folder)
        if system.get_file_info(path).is_file:
            yield folder
        return
    deep = parts[0] == "**"
    for name, info in _infos(folder, deep):
        names = name.split("/")
        if deep:
            if info.is_file and _fits(names, parts):
                yield join(folder, name)
        elif _fits(names, parts[:1]):
            if len(parts) > 1 and info.type == fs.FileType.Directory:
                yield from _matches(join(folder, name), parts[1:])
            elif len(parts) == 1 and info.is_file:
                yield join(folder, name)


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the file ``names[0]/names[1]/...`` fits a pattern, as `glob` has it; ``**`` is any number of folders."""
    if not names or not parts:
        return not names and not parts
    name, part = names[0], parts[0]
    visible = not name.startswith(".") or part.startswith(".")
    if part == "**":
        deeper = _fits(names[1:], parts) if names[1:] else len(parts) == 1
        return _fits(names, parts[1:]) or (visible and deeper)
    return visible and fnmatchcase(name, part) and _fits(names[1:], parts[1:])


def is_folder(location: Location) -> bool:
    """Whether a location is a folder that exists."""
    if not is_uri(location):
        return Path(location).is_dir()
    with told(location):
        system, path = located(location)
        return system.get_file_info(path).type == fs.FileType.Directory


def names(folder: Location) -> set[str]:
    """Names of the files and folders in a folder; none where there is no folder.

    Raises:
        UserError: it is a file.
    """
    if is_uri(folder):
        with told(folder):
            return {name for name, _ in _infos(folder, False)}
    if Path(folder).exists() and not Path(folder).is_dir():
        raise UserError(folder, "is a file", "Give a folder.")
    return set(os.listdir(folder)) if Path(folder).is_dir() else set()


def sizes(files: Sequence[str]) -> list[int]:
    """Bytes in each file; of those that were read before, object stores are not asked again."""
    return [_handle(file, endpoint()).size() if is_uri(file) else os.path.getsize(file) for file in files]


def modified(file: str) -> int:
    """When a file was written, in nanoseconds."""
    if not is_uri(file):
        return Path(file).stat().st_mtime_ns
    with told(file):
        system, path = located(file)
        return system.get_file_info(path).mtime_ns


def open_input(file: str) -> Any:
    """A binary stream that can seek, for reading; of a URI, each read is a request for these bytes."""
    if not is_uri(file):
        return open(file, "rb")
    with told(file):
        system, path = located(file)
        return system.open_input_file(path)


def parquet_file(file: Location, **options: Any) -> pq.ParquetFile:
    """An open Parquet file. Of a URI, only the footer and the column chunks that are read are fetched.

    Args:
        file: its location.
        options: of pyarrow's ParquetFile.
    """
    return pq.ParquetFile(_handle(str(file), endpoint()) if is_uri(file) else file, **options)


@lru_cache(maxsize=1024)
def _handle(uri: str, _: str | None) -> pa.NativeFile:
    """Reading one has no state but the size, so a file is asked for that only once."""
    with told(uri):
        system, path = located(uri)
        return system.open_input_file(path)


def read(location: Location, most: int = -1) -> bytes | None:
    """The content of a small file, or its first ``most`` bytes; None where there is none.

    Raises:
        UserError: it is a folder, or not for this user to read.
    """
    try:
        if not is_uri(location):
            with open(location, "rb") as stream:
                return stream.read(most)
        with told(location):
            system, path = located(location)
            with system.open_input_stream(path) as stream:
                return stream.read(None if most < 0 else most)
    except (PermissionError, IsADirectoryError) as error:
        raise UserError(location, f"cannot be read ({error.strerror or error})", "Give a file you can read.") from error
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(location: Location, content: bytes | pa.Buffer) -> None:
    """Writes a file so that a reader, or a machine that lost power, has the old one or the whole new one."""
    if not is_uri(location):
        replace_file(Path(location), content)
        return
    with told(location):
        system, path = located(location)
        atomic = str(location).partition("://")[0] in _OBJECT_STORES
        target = (
            path
            if atomic
            else posixpath.join(posixpath.dirname(path), f".{posixpath.basename(path)}.tmp-{os.getpid()}")
        )
        if not atomic:
            system.create_dir(posixpath.dirname(path))
        # The content goes in one call: a stream that is closed after half of it would make a whole object of that half.
        with system.open_output_stream(target) as stream:
            stream.write(content)
        if not atomic:
            system.move(target, path)


def remove(location: Location) -> None:
    """Removes a file, if it is there; of a URI, also a folder with all that is in it."""
    if not is_uri(location):
        Path(location).unlink(missing_ok=True)
        return
    with told(location):
        system, path = located(location)
        kind = system.get_file_info(path).type
        if kind == fs.FileType.File:
            system.delete_file(path)
        elif kind == fs.FileType.Directory:
            system.delete_dir(path)


def listing(uri: str) -> dict[str, Stamp]:
    """All files below a folder of a URI: name there -> size and time."""
    with told(uri):
        return {name: _stamp(info) for name, info in _infos(uri, True) if info.is_file}


def _stamp(info: fs.FileInfo) -> Stamp:
    return info.size, info.mtime_ns // 10**9 * 10**9  # some services tell finer times in lists than of one file


def upload(path: Path, uri: str) -> Stamp:
    """Writes a local file to a URI, whole or not at all; the size and time of what is there now."""
    write(uri, pa.memory_map(str(path)).read_buffer())
    with told(uri):
        system, place = located(uri)
        return _stamp(system.get_file_info(place))


def download(uri: str, path: Path, stamp: Stamp) -> None:
    """Makes a local file of a URI's, whole or not at all, with its time; blocks of a large one side by side.

    Raises:
        FileNotFoundError: there is none, or not of that size any more.
    """
    size, written = stamp
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with open_input(uri) as source, open_new(temporary) as target:
            if source.size() != size:
                raise FileNotFoundError(f"{uri} has changed")

            def copy(start: int) -> None:
                with told(uri):
                    block = source.read_at(min(_BLOCK, size - start), start)
                if os.pwrite(target.fileno(), block, start) != len(block):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(copy, range(0, size, _BLOCK)))
            os.fsync(target.fileno())
        os.utime(temporary, ns=(written, written))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(uri: str) -> None:
    """Finds out before the work whether files can be written to a folder of a URI, and removed.

    Raises:
        StorageError: they cannot.
    """
    mark = join(uri, f".foundrank-{uuid.uuid4().hex}")
    write(mark, b"")
    remove(mark)


def _infos(folder: Location, deep: bool) -> Iterator[tuple[str, fs.FileInfo]]:
    """Name below the folder, and info, of what is in a folder of a URI, or anywhere below it."""
    system, path = located(folder)
    try:
        infos = system.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=deep))
    except NotADirectoryError:
        return
    for info in infos:
        yield info.path[len(path) :].strip("/"), info
