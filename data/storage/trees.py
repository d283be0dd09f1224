"""Folders with all that is in them, by path or by URI."""

import os
import shutil
from pathlib import Path

from . import storage
from .file_systems import Location, is_uri, located, told


def files_below(folder: Location) -> list[str]:
    """Names of all files in a folder and below it, sorted; none where there is no folder."""
    return sorted(name for name, is_file in storage.entries(folder, deep=True) if is_file)


def move_file(old: Location, new: Location) -> None:
    """Gives a file another place in the same file system, or bucket, in place of what is there.

    Of a local path at once; of an object store a copy, of which nobody sees a part, and a deletion.
    """
    if not is_uri(old):
        Path(new).parent.mkdir(parents=True, exist_ok=True)
        os.replace(old, new)
        return
    with told(new):
        system, source = located(old)
        system.create_dir(os.path.dirname(located(new)[1]))
        system.move(source, located(new)[1])


def remove_tree(folder: Location) -> None:
    """Removes a folder with all that is in it, or a file; links are removed, not followed."""
    if is_uri(folder) or not Path(folder).is_dir() or Path(folder).is_symlink():
        storage.remove(folder)
    else:
        shutil.rmtree(folder)
