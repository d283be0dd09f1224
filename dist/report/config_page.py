"""What ``foundrank config`` prints: the whole experiment, each value with where it comes from."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import yaml


def config_page(plain: dict[str, Any], source: Callable[[str], str]) -> str:
    """YAML of an experiment, one line a value.

    Args:
        plain: the experiment.
        source: of a dotted key's value; what it gives stands beside the value as a comment.
    """
    return "\n".join(_lines(plain, source, "", ""))


def _lines(section: dict[str, Any], source: Callable[[str], str], at: str, indent: str) -> Iterator[str]:
    for name, value in section.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{_yaml(name)}:"
            yield from _lines(value, source, f"{at}{name}.", f"{indent}  ")
        else:
            yield f"{indent}{_yaml(name)}: {_yaml(value)}  # {source(at + name)}"


def _yaml(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, str) and not value.isprintable():
        return json.dumps(value)  # YAML's own folds lines
    written = yaml.safe_dump([value], default_flow_style=True, width=1 << 30, allow_unicode=True)
    return written.strip().removeprefix("[").removesuffix("]")
