"""JSON documents of runs and stores, read as what they are meant to hold: whatever else is there is told in one line."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ..errors import UserError


class Shape(BaseModel):
    """What a document must hold; it may hold more. Types are taken as they are: no ``"1"`` for 1."""

    model_config = ConfigDict(extra="allow", strict=True)


def read_document(path: Path, shape: Any, remedy: str, default: Any = None) -> Any:
    """The JSON value of a file; ``default`` where there is none.

    Args:
        path: of the file.
        shape: a `Shape`, or another type that pydantic knows, that the value must have.
        remedy: what to do about a damaged one.
        default: any.

    Raises:
        UserError: it is not UTF-8, not JSON, or of another shape.
    """
    if not path.is_file():
        return default
    return parse_document(path.read_bytes(), path, shape, remedy)


def parse_document(content: bytes, where: str | Path, shape: Any, remedy: str) -> Any:
    """The JSON value in ``content``; the rest as of `read_document`."""
    parse_shape(content, where, shape, remedy)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        what = f"not valid JSON: {error}"
    raise UserError(where, what, remedy)


def parse_shape(content: bytes, where: str | Path, shape: Any, remedy: str) -> Any:
    """What ``content`` holds, as an object of the shape; the rest as of `read_document`."""
    try:
        return TypeAdapter(shape).validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        at = ".".join(str(step) for step in first["loc"])
        what = f"is damaged ({at + ': ' if at else ''}{first['msg']})"
        if first["type"] == "json_invalid":
            what = f"not valid JSON: {first.get('ctx', {}).get('error')}"
    raise UserError(where, what, remedy)


def sum_of(plain: dict[str, Any]) -> str:
    """SHA-256 of JSON values, however they are laid out in a file."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
