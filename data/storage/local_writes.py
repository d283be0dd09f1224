"""Writing local files so that nothing else is written: not through a link that someone has put there, and never a half.

Folders may come from elsewhere. A name in one that is about to be written may be a link to any file of the user's.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from ..errors import UserError


def open_new(path: Path) -> BinaryIO:
    """A new file in place of whatever has its name; a link is removed, not followed."""
    path.unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o666), "wb")


def temporary_name(name: str) -> str:
    """What a file is called until it is whole."""
    return f".{name}.tmp-{os.getpid()}"


def is_temporary(name: str) -> bool:
    """Whether a name is a `temporary_name`, of this process or another: what is left of writing that was cut short."""
    return name.startswith(".") and name.rpartition(".tmp-")[2].isdigit()


def replace_file(path: Path, content: bytes | pa.Buffer, temporary: Path | None = None) -> None:
    """Writes a file so that a reader, or a machine that lost power, has the old one or the whole new one.

    Args:
        path: of the file; its folder is made.
        content: of the file.
        temporary: beside it, what is written first; where it is the same in every process, a new one takes what a killed one left.
    """
    with replaced(path, temporary) as stream:
        stream.write(content)


@contextmanager
def replaced(path: Path, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """A stream whose content takes a file's place once all is written, and else not; arguments as of `replace_file`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary or path.with_name(temporary_name(path.name))
    try:
        with open_new(temporary) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except IsADirectoryError as error:
        raise UserError(error.filename or path, "is a folder, where a file is to be written", "Remove it.") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a file so that a reader sees the old one or the new one, never a part. One process at a time."""
    # One name, so that the next write takes what a killed one left.
    replace_file(path, text.encode(), path.with_name(f".{path.name}.tmp"))
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, would survive the machine's power going out."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Makes a new folder; its parents too.

    Raises:
        FileExistsError: there is something of that name, be it a link to a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir()


def refuse_links(folder: Path, files: bool = False) -> None:
    """Makes sure that what is in a folder, and below it, is in it.

    Args:
        folder: itself may be a link.
        files: whether links to files are refused too; else those to folders alone.

    Raises:
        UserError: naming the first link.
    """
    for inside, folders, names in os.walk(folder):
        for name in [*folders, *(names if files else [])]:
            path = Path(inside, name)
            if path.is_symlink():
                raise UserError(
                    path,
                    f"is a link to '{os.readlink(path)}', and foundrank would write there",
                    "Put what it leads to in its place, or remove it.",
                )
