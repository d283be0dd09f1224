"""Sections of Markdown files that a command writes, between markers; what stands outside them stays."""

from pathlib import Path

from ...data.errors import UserError
from ...data.storage.local_writes import write_text


def write_section(path: Path, name: str, text: str, title: str = "Results") -> None:
    """Replaces what is between ``<!-- NAME -->`` and ``<!-- /NAME -->`` in a file, or appends it; makes the file
    with a title if need be.

    Raises:
        UserError: one of the two markers is missing, or they are in the wrong order.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = path.read_text(encoding="utf-8") if path.is_file() else f"# {title}\n"
    start, stop = old.find(begin), old.find(end)
    section = f"{begin}\n{text.strip()}\n{end}"
    if start < 0 and stop < 0:
        write_text(path, f"{old.rstrip()}\n\n{section}\n")
    elif 0 <= start < stop:
        write_text(path, old[:start] + section + old[stop + len(end) :])
    else:
        raise UserError(
            path, f"has {begin} or {end} without the other after it", "Put both markers back, or remove both."
        )
