"""What is wrong with an experiment, told with the key in the file, the value and the remedy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic import ValidationError

from ..errors import UserError, nearest
from ..settings_base import Seam, Strict
from .kinds import members, seam_of
from .places import at_key, keys_of, present

_FIELDS = "docs/reference/experiment.md lists every field"


def explained(error: ValidationError, root: type[Strict], file: str, old_keys: Mapping[str, str]) -> UserError:
    """The first error of an experiment as one of the user's.

    Args:
        error: of pydantic.
        root: the experiment's type.
        file: where it comes from.
        old_keys: key of today -> the old one that the file has instead.
    """
    first = error.errors()[0]
    kind, given = first["type"], first.get("input")
    more = f" ({error.error_count() - 1} more after this one)" if error.error_count() > 1 else ""
    place = _place(root, first["loc"])
    where = f"{file}: {old_keys.get(place.key, place.key) or 'the file'}"
    last = place.path[-1] if place.path else ""
    if kind == "extra_forbidden":
        if place.others:
            what = f"has no effect: {place.chosen} has no such setting{more}"
            return UserError(where, what, f"Remove it, or choose {' or '.join(place.others)}.")
        return UserError(where, f"unknown key '{last}'{more}", nearest(last, place.beside))
    if kind == "union_tag_invalid":
        seam = place.seam
        assert seam is not None
        tag = first.get("ctx", {}).get("tag")
        return UserError(f"{where}.{seam.by}", f"'{tag}' is not one of its kinds{more}", nearest(str(tag), place.kinds))
    if kind == "union_tag_not_found":
        seam = place.seam
        assert seam is not None
        what = f"'{seam.by}' is required and missing{more}"
        return UserError(f"{where}.{seam.by}", what, f"Add it: {', '.join(place.kinds)}.")
    if kind == "missing":
        return UserError(where, f"'{last}' is required and missing{more}", f"Add it; {_FIELDS}.")
    shown = f" (got {_short(given)})" if isinstance(given, str | int | float | bool | date) else ""
    remedy = f"{_FIELDS} and what it takes."
    if kind == "string_type" and isinstance(given, int | float | date):
        remedy = f"YAML takes it for a {type(given).__name__}, no text; write it in quotes."
    return UserError(where, f"{first['msg'].removeprefix('Value error, ')}{shown}{more}", remedy)


def of_other_kinds(error: ValidationError, root: type[Strict]) -> list[str]:
    """The keys of settings that only other kinds have than the ones chosen."""
    places = [_place(root, each["loc"]) for each in error.errors() if each["type"] == "extra_forbidden"]
    return [place.key for place in places if place.others]


@dataclass(frozen=True)
class _Place:
    """Of an error.

    Attributes:
        path: the keys in the file that lead to it.
        beside: the keys that its section takes.
        chosen: of what kind its section is, ``head: star``; empty where there is only one.
        others: the kinds that have such a key, where this one has not.
        seam: of what is there.
        kinds: the kinds of what is there.
    """

    path: list[str]
    beside: list[str]
    chosen: str
    others: list[str]
    seam: Seam | None
    kinds: list[str]

    @property
    def key(self) -> str:
        return ".".join(self.path)


def _place(root: type[Strict], location: Sequence[str | int]) -> _Place:
    """Where in the file an error is: pydantic's location has the names of kinds in it, which are no keys."""
    path: list[str] = []
    annotation, beside, chosen, others = root, [], "", []
    kind, known, by = "", {}, ""
    for part in location:
        if part == "[key]":
            continue
        if (seam := seam_of(annotation)) is not None and part in members(annotation) and not kind:
            kind, known, by = str(part), members(annotation), seam.by
            annotation = known[kind]
            continue
        path.append(str(part))
        beside, chosen = keys_of(annotation), f"{by}: {kind}" if kind else ""
        others = [f"{by}: {name}" for name, cls in known.items() if part in cls.model_fields and part not in beside]
        annotation, kind, known = present(at_key(annotation, part)), "", {}
    seam = seam_of(annotation)
    return _Place(path, beside, chosen, others, seam, list(members(annotation)) if seam else [])


def _short(value: Any) -> str:
    """A value as YAML has it; of a very long number, that it is one, for Python refuses to write it."""
    if isinstance(value, int) and abs(value) > 1 << 200:
        return "a number of more than 60 digits"
    text = str(value) if isinstance(value, date) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
