"""How a job is to speak: options of the command line, kept in the environment, which the ranks it starts inherit."""

import os
from pathlib import Path

from ...data.debugging import is_debugged
from ...data.errors import UserError
from ...data.storage.file_systems import local_path

FORMAT, QUIET, NO_PROGRESS, METRICS_FILE = (
    "FOUNDRANK_LOG_FORMAT",
    "FOUNDRANK_QUIET",
    "FOUNDRANK_NO_PROGRESS",
    "FOUNDRANK_METRICS_FILE",
)
FORMATS = ("text", "json")


def rank() -> int:
    """This process's number among the ranks of its job; 0 where there is none but it, and in what starts them."""
    number = os.environ.get("RANK") or "0"
    return int(number) if number.isdecimal() else 0


def is_json() -> bool:
    """Whether each record is a JSON object on a line of its own."""
    return os.environ.get(FORMAT) == "json"


def is_quiet() -> bool:
    """Whether only warnings, errors and the result are told."""
    return _is_on(QUIET)


def shows_progress() -> bool:
    """Whether bars and lines of progress are wanted; beside a debugger's prompt they are not."""
    return not (is_quiet() or _is_on(NO_PROGRESS) or is_debugged())


def metrics_file() -> Path | None:
    """The file for Prometheus, where one was asked for."""
    return Path(path) if (path := os.environ.get(METRICS_FILE)) else None


def check_settings() -> None:
    """Before any work: makes sure that the environment says something that can be done.

    Raises:
        UserError: an unknown format, or a file that cannot be written.
    """
    if (asked := os.environ.get(FORMAT) or "text") not in FORMATS:
        raise UserError(FORMAT, f"is '{asked}'", f"Choose {' or '.join(FORMATS)}.")
    if (path := os.environ.get(METRICS_FILE)) is None:
        return
    remedy = "Give --metrics-file a file in a folder of this machine, e.g. one that Prometheus' node exporter reads."
    file = Path(local_path(path))
    if file.is_dir():
        raise UserError(f"--metrics-file {path}", "is a folder", remedy)
    folder = file.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        what = "cannot be written to" if folder.is_dir() else "is not there"
        raise UserError(f"--metrics-file {path}", f"is in the folder {folder}, which {what}", remedy)


def _is_on(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")
