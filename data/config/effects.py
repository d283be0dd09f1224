"""Settings that change nothing, because of what others are."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..settings_base import Strict


def without_effect(section: Strict, at: str = "") -> dict[str, str]:
    """Dotted keys of a section and its parts that have no effect -> what they would need to have one."""
    found: dict[str, str] = {}
    for name, value in section:
        for key, part in _parts(value):
            found |= without_effect(part, f"{at}{name}.{key}")
    return found | {f"{at}{key}": need for key, need in section.without_effect().items()}


def is_given(raw: Any, key: str) -> bool:
    """Whether a file's plain dict says something under a dotted key."""
    for part in key.split("."):
        raw = raw.get(part) if isinstance(raw, dict) else None
    return raw is not None


def remove(raw: dict[str, Any], key: str) -> None:
    """Takes a dotted key out of a plain dict, if it is there."""
    *parents, last = key.split(".")
    for part in parents:
        raw = raw.get(part, {})
        if not isinstance(raw, dict):
            return
    raw.pop(last, None)


def _parts(value: Any) -> Iterator[tuple[str, Strict]]:
    if isinstance(value, Strict):
        yield "", value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from ((f"{name}.", inner) for _, inner in _parts(part))
