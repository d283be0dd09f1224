"""Sections of Markdown files that a command writes, between markers; what stands outside them stays."""

from pathlib import Path

from ...data.errors import UserError
from ...data.storage.local_writes import write_text


def write_section(path: Path, name: str, text: str, title: str = "Results") -> None:
    """Replaces what is between ``<!-- NAME -->`` and ``<!-- /NAME -->`` in a file, or appends it; makes the file
    with a title if need be.

    Raises:
        UserError: as of `check_section`.
    """
    before, after = check_section(path, name) if path.exists() else (f"# {title}\n\n", "\n")
    begin, end = _markers(name)
    write_text(path, f"{before}{begin}\n{text.strip()}\n{end}{after}")


def check_section(path: Path, name: str) -> tuple[str, str]:
    """What stands before and after a section in a file that is there.

    Raises:
        UserError: it is no text file, one of the two markers is missing, or they are in the wrong order.
    """
    try:
        old = path.read_text(encoding="utf-8")
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise UserError(path, "is not a text file in UTF-8", "Name another file, or remove it.") from error
    begin, end = _markers(name)
    start, stop = old.find(begin), old.find(end)
    if start < 0 and stop < 0:
        return f"{old.rstrip()}\n\n", "\n"
    if 0 <= start < stop:
        return old[:start], old[stop + len(end) :]
    raise UserError(path, f"has {begin} or {end} without the other after it", "Put both markers back, or remove both.")


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- /{name} -->"
