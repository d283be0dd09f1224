"""One folder for all that a command and its ranks leave on the way: nobody else's to enter, and gone when the command ends."""

import os
import shutil
import tempfile
from pathlib import Path

from ...data.errors import UserError

_SOCKET_ROOM = 60
"""Characters of a folder's name that leave enough of the 107 a socket's may have."""

_made: list[tuple[Path, str | None]] = []


def private_folder() -> Path:
    """The command's own folder, made when it is first asked for; all later temporary files, also of what is started, go there.

    Raises:
        UserError: there is nowhere to make it.
    """
    if not _made:
        try:
            place = tempfile.gettempdir()
            if len(place) > _SOCKET_ROOM and os.access("/tmp", os.W_OK):
                place = "/tmp"
            folder = tempfile.mkdtemp(prefix="foundrank-", dir=place)  # mode 0700
        except OSError as error:
            told = f"no folder for temporary files can be made ({error.strerror or error})"
            raise UserError("TMPDIR", told, "Set it to a folder you can write to.") from error
        _made.append((Path(folder), os.environ.get("TMPDIR")))
        os.environ["TMPDIR"] = tempfile.tempdir = folder
    return _made[0][0]


def remove_private_folder() -> None:
    """Removes it, if this process has made one."""
    while _made:
        folder, before = _made.pop()
        shutil.rmtree(folder, ignore_errors=True)
        tempfile.tempdir = None
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before
