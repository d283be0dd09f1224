"""Folders that a command makes: what they may be, and filling them so that nothing looks finished before it is."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError
from .local_writes import make_folder
from .storage import names

_BUILDING = ".foundrank.tmp"  # one name: the next command takes what a killed one left
_OF_THE_DISK = "lost+found"  # a new volume is not empty


def is_free(folder: Path, left: Collection[str] = ()) -> bool:
    """Whether a folder is not there yet, or has nothing in it but what a job that died may have ``left``."""
    return not folder.is_dir() or not names(folder) - {_BUILDING, _OF_THE_DISK, *left}


def check_can_be_made(folder: Path, where: str | Path, remedy: str) -> None:
    """Finds out before the work, and without making anything, whether a folder can be made or written into.

    Raises:
        UserError: at ``where``, with ``remedy``: the nearest existing folder is no folder, or not ours to write.
    """
    existing = folder.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(where, f"cannot be made: '{existing}' is not a folder you can write to", remedy)


def check_new(folder: Path, left: Collection[str] = ()) -> None:
    """Finds out before the work whether `new_folder` can make a folder.

    Raises:
        UserError: it is a file, holds something, or cannot be made or written.
    """
    if (folder.exists() and not folder.is_dir()) or not is_free(folder, left):
        raise UserError(folder, "exists already and is not an empty folder", "Give a new folder, or remove this one.")
    check_can_be_made(folder, folder, "Choose another folder.")


@contextmanager
def new_folder(folder: Path, last: str, left: Collection[str] = ()) -> Iterator[Path]:
    """A folder to write into; what is in it comes into ``folder`` when the block ends well, else nothing does.

    It is in ``folder`` itself, which may be the one a command runs in, a link or a mount point: none of those can be replaced.

    Args:
        folder: new or empty.
        last: file or folder that comes last, without which nobody takes ``folder`` for what it is to be.
        left: names of what a job that died may have left, to be replaced.

    Raises:
        UserError: as `check_new`.
    """
    check_new(folder, left)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    building = folder / _BUILDING
    shutil.rmtree(building, ignore_errors=True)
    try:
        make_folder(building)
        yield building
        for name in sorted(os.listdir(building), key=lambda name: (name == last, name)):
            if name in left:
                shutil.rmtree(folder / name, ignore_errors=True)
            os.replace(building / name, folder / name)
        made = []
    finally:
        shutil.rmtree(building, ignore_errors=True)
        if made and is_free(folder):
            folder.rmdir()
