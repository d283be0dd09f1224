"""Finding one's way in an experiment: what is at a place, by its type and in the plain dict of the file."""

from collections.abc import Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from ..settings_base import Seam, Strict
from .kinds import members, seam_of, whole_annotation, written_out


def at_key(annotation: Any, key: str | int, value: Any = None) -> Any:
    """The annotation of what is at a key of a value that has this one; None where nothing can be.

    ``value``: the value, which tells its kind.
    """
    annotation = present(annotation)
    if (seam := seam_of(annotation)) is not None:
        annotation = kind_of(annotation, seam, value)
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        info = annotation.model_fields.get(str(key))
        return None if info is None else whole_annotation(info)
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:  # its keys are names the user chose
        return arguments[1]
    return arguments[0] if get_origin(annotation) in (tuple, list) else None


def present(annotation: Any) -> Any:
    """An annotation without the None that it allows."""
    if get_origin(annotation) is Annotated and seam_of(annotation) is None:
        return present(get_args(annotation)[0])
    if type(None) in (options := get_args(annotation)):
        (annotation, *_) = (option for option in options if option is not type(None))
    return annotation


def kind_of(annotation: Any, seam: Seam, value: Any) -> type[Strict] | None:
    """The class of the kind that the value of a seam's field is of; None where it names none that is known."""
    if len(known := members(annotation)) == 1:
        return next(iter(known.values()))
    value = written_out(seam, known, {} if value is None else value)
    name = value.get(seam.by) if isinstance(value, dict) else None
    return known.get(name) if isinstance(name, str) else None


def keys_of(annotation: Any) -> list[str]:
    """The keys of a section, by its annotation."""
    annotation = present(annotation)
    if (seam := seam_of(annotation)) is not None:
        annotation = kind_of(annotation, seam, None)
    return list(annotation.model_fields) if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def annotation_at(raw: Any, root: type[Strict], path: Sequence[str]) -> Any:
    """The annotation of what is at a place; None where nothing can be. What a file's plain dict says there tells its kind."""
    annotation: Any = root
    for part in path:
        annotation = present(at_key(annotation, part, raw))
        raw = raw.get(part) if isinstance(raw, dict) else None
    return annotation


def section_at(raw: dict[str, Any], root: type[Strict], path: Sequence[str]) -> dict[str, Any] | None:
    """The mapping at a place of a file's plain dict, made if it is not there and written out if it is in its short form; None
    where something else is in the way."""
    at: Any = raw
    annotation: Any = root
    for part in path:
        annotation = present(at_key(annotation, part, at))
        value, seam = at.get(part), seam_of(annotation)
        at[part] = {} if value is None else value if seam is None else written_out(seam, members(annotation), value)
        at = at[part]
        if not isinstance(at, dict):
            return None
    return at
