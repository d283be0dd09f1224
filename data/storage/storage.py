"""Files by path or by URI: reading, listing, and writing whole.

A *location* is a local path, or a URI that pyarrow.fs understands: ``s3://bucket/events/*.parquet``, and ``gs://``,
``abfss://``, ``hdfs://``, ``file://`` or ``fsspec+NAME://``. This module and `file_systems` are the only ones that know of
file systems.
"""

import errno
import os
import posixpath
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from ..errors import UserError
from .delta_tables import DELTA, is_delta
from .file_systems import Location, endpoint, is_uri, located, told
from .local_writes import is_temporary, open_new, replace_file, temporary_name

Stamp = tuple[int, int]
"""Size in bytes, and time of writing in nanoseconds, of whole seconds: where both are the same, so is the file."""

LEASE = ".lease"
"""What begins the names of files that say which job works in a folder; nobody's data."""

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
    if is_delta(location):
        return DELTA + resolved(location.removeprefix(DELTA), folder)
    if is_uri(location):
        return location.rstrip("/")
    path = with_home(location)
    if path.is_absolute() or not is_uri(folder):
        return os.path.normpath(Path(folder) / path)
    scheme, _, rest = str(folder).partition("://")
    return f"{scheme}://{posixpath.normpath(posixpath.join(rest, location))}"


def with_home(location: str) -> Path:
    """A local path, with a user's home in place of ``~``.

    Raises:
        UserError: nobody knows where that is.
    """
    try:
        return Path(location).expanduser()
    except RuntimeError as error:
        raise UserError(
            location, "begins in a home that is not known here", "Set HOME, or write the whole path."
        ) from error


def is_folder(location: Location) -> bool:
    """Whether a location is a folder that exists."""
    return _kind(location) == fs.FileType.Directory


def is_file(location: Location) -> bool:
    """Whether a location is a file that exists."""
    return _kind(location) == fs.FileType.File


def exists(location: Location) -> bool:
    """Whether a location is a file or a folder that exists."""
    return _kind(location) in (fs.FileType.File, fs.FileType.Directory)


def _kind(location: Location) -> fs.FileType:
    if not is_uri(location):
        is_file, is_folder = os.path.isfile(location), os.path.isdir(location)
        return fs.FileType.File if is_file else fs.FileType.Directory if is_folder else fs.FileType.NotFound
    with told(location):
        system, path = located(location)
        return system.get_file_info(path).type


def names(folder: Location) -> set[str]:
    """Names of the files and folders in a folder; none where there is no folder.

    Not those of the leases of jobs at work, nor what is left of writing that was cut short.

    Raises:
        UserError: it is a file.
    """
    if is_uri(folder):
        with told(folder):
            found = {name for name, _ in _infos(folder, False)}
    elif Path(folder).exists() and not Path(folder).is_dir():
        raise UserError(folder, "is a file", "Give a folder.")
    else:
        found = set(os.listdir(folder)) if Path(folder).is_dir() else set()
    return {name for name in found if not name.startswith(LEASE) and not is_temporary(name)}


def sizes(files: Sequence[str]) -> list[int]:
    """Bytes in each file; of those that were read before, object stores are not asked again."""
    return [handle(file, endpoint()).size() if is_uri(file) else os.path.getsize(file) for file in files]


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
    return pq.ParquetFile(handle(str(file), endpoint()) if is_uri(file) else file, **options)


def parquet_file_in_pieces(file: Location, **options: Any) -> pq.ParquetFile:
    """As `parquet_file`, to be read batch by batch: a buffer, and nothing read ahead. Else columns of a row group, or of all, are in
    memory as a whole."""
    buffer = 1 << 23 if is_uri(file) else 1 << 20  # each is a request to an object store
    return parquet_file(file, buffer_size=buffer, pre_buffer=False, **options)


@lru_cache(maxsize=1024)
def handle(uri: str, _: str | None) -> pa.NativeFile:
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
        target = path if atomic else posixpath.join(posixpath.dirname(path), temporary_name(posixpath.basename(path)))
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
    temporary = path.with_name(temporary_name(path.name))
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


def entries(folder: Location, deep: bool) -> Iterator[tuple[str, bool]]:
    """Name below the folder of all that is in it, or anywhere below it, and whether it is a file; nothing where there is no folder.

    Raises:
        UserError: a folder may not be listed.
    """
    if is_uri(folder):
        for name, info in _infos(folder, deep):
            yield name, info.is_file
        return
    try:
        with os.scandir(folder) as found:
            for one in found:
                yield one.name, one.is_file()
                # A link to a folder around it would bring the same files again and again.
                if deep and one.is_dir() and not (one.is_symlink() and _is_around(one.path)):
                    for name, is_file in entries(one.path, deep):
                        yield f"{one.name}/{name}", is_file
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError as error:
        if os.path.basename(folder).startswith((".", "_", "lost+found")):  # holds no data
            return
        raise UserError(folder, "cannot be listed (Permission denied)", "Give a folder you can read.") from error


def _is_around(link: str) -> bool:
    """Whether a link leads to a folder that it is in."""
    return f"{os.path.realpath(os.path.dirname(link))}/".startswith(f"{os.path.realpath(link).rstrip('/')}/")


def _infos(folder: Location, deep: bool) -> Iterator[tuple[str, fs.FileInfo]]:
    """Name below the folder, and info, of what is in a folder of a URI, or anywhere below it."""
    system, path = located(folder)
    try:
        infos = system.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=deep))
    except NotADirectoryError:
        return
    for info in infos:
        yield info.path[len(path) :].strip("/"), info
