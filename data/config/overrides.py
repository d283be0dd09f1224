"""``--set key=value``: changes to what an experiment file says, before it is checked."""

import re
from collections.abc import Sequence
from typing import Any

from ..errors import UserError
from ..settings_base import Strict
from .kinds import members, seam_of
from .old_keys import OLD_KEYS
from .places import annotation_at, section_at
from .yaml_reader import DEEPEST, read_yaml

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\']|\'\')*\'', re.DOTALL)


def assignments(override: str) -> list[str]:
    """The parts of a ``--set``: they are separated by semicolons, but for those in a value that is quoted."""
    parts, at, before = [""], 0, ""
    while at < len(override):
        quoted = _QUOTED.match(override, at) if before in "=[{,:" else None  # elsewhere a quote is an apostrophe
        piece = quoted[0] if quoted else override[at]
        if piece == ";":
            parts.append("")
        else:
            parts[-1] += piece
        at += len(piece)
        before = piece[-1] if not piece.isspace() else before
    return [part for part in parts if part.strip()] or [override]


def apply(raw: dict[str, Any], override: str, root: type[Strict]) -> str:
    """Sets one ``key=value`` in a file's plain dict; the key is given back, as of today.

    Another kind in place of one, as by ``model.head=star`` or ``model.history.encoder=din``, leaves those settings that it has too.

    Args:
        raw: what the file says.
        override: ``key=value``, the key dotted, the value read as YAML.
        root: the experiment's type.

    Raises:
        UserError: it is not ``key=value``, its value is no YAML, or its key is below one that has a value.
    """
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise UserError(
            f"--set {override}",
            "is not key=value",
            "Write e.g. --set training.epochs=1; a value that has a semicolon goes in quotes.",
        )
    key = OLD_KEYS.get(key.strip(), key.strip())
    *parents, last = path = key.split(".")
    if len(parents) > DEEPEST:
        raise UserError(
            f"--set {override}", f"has more than {DEEPEST} parts", "docs/reference/experiment.md lists every field."
        )
    new = read_yaml(value, f"--set {override}", "Quote the value, e.g. --set 'name=\"a: b\"'")
    section = _section(raw, root, parents, override)
    if (seam := seam_of(annotation_at(raw, root, path))) is not None and isinstance(new, str) and last in section:
        section, parents, last = _section(raw, root, path, override), path, seam.by
    seam = seam_of(annotation := annotation_at(raw, root, parents))
    if seam is not None and last == seam.by:
        _leave_shared(section, members(annotation), new)
    section[last] = new
    return ".".join([*parents, last])


def _section(raw: dict[str, Any], root: type[Strict], path: Sequence[str], override: str) -> dict[str, Any]:
    for length in range(len(path) + 1):
        if (section := section_at(raw, root, path[:length])) is None:
            what = f"'{path[length - 1]}' is a value, not a section"
            raise UserError(f"--set {override}", what, "Set that key itself.")
    return section  # type: ignore[return-value]


def _leave_shared(section: dict[str, Any], known: dict[str, type[Strict]], kind: Any) -> None:
    """Removes what only other kinds have from a section that becomes one of ``kind``."""
    if kind not in known:  # which is told when the experiment is read
        return
    of_others = {name for cls in known.values() for name in cls.model_fields} - known[kind].model_fields.keys()
    for name in of_others & section.keys():
        del section[name]
