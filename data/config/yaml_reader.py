"""Reading YAML that somebody else may have written: bounded, every key a string and written once, every mistake told."""

from typing import Any

import yaml

from ..errors import UserError, one_line

MOST_BYTES = 1 << 22
DEEPEST = 32
_MOST_VALUES = 200_000  # what aliases stand for counted every time
_REFUSED = (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError)  # of PyYAML, for values such as !!int x
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's takes a tenth of the time


def read_yaml(text: bytes | str, where: str, remedy: str) -> Any:
    """The value of a YAML document, made of dicts with string keys, lists, strings, numbers, dates, booleans and None.

    Args:
        text: the document; bytes are UTF-8.
        where: it is from, for errors.
        remedy: for text that is not YAML.

    Raises:
        UserError: it is not YAML, holds a value that is none, is nested deeper than `DEEPEST`, stands for too many values by
            its aliases, or has a key that is no string or is written twice.
    """
    if len(text) > MOST_BYTES:
        raise UserError(where, f"is longer than {MOST_BYTES >> 20} MiB", "Give an experiment: it is far smaller.")
    try:
        text = text.decode() if isinstance(text, bytes) else text
        if (why := _too_much(text)) is not None:
            raise UserError(where, why, "Write it out, without more levels or aliases than an experiment needs.")
        return _written_out(yaml.load(text, Loader=_Loader))
    except _REFUSED as error:
        raise UserError(where, f"not valid YAML: {one_line(error)}", remedy) from error


def _written_out(value: Any) -> Any:
    """The value with a copy of its own wherever an alias stood: a change in one place is none in another."""
    if isinstance(value, dict):
        return {key: _written_out(inner) for key, inner in value.items()}
    return [_written_out(inner) for inner in value] if isinstance(value, list) else value


def _too_much(text: str) -> str | None:
    """Why a document must not be read, if so: found from its events, for building it would take the stack or forever."""
    open_: list[tuple[str | None, int]] = []  # anchor, and values before, of each collection that is not closed yet
    values, of_anchor = 0, {}
    for event in yaml.parse(text, Loader=_SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_):
                return f"alias '{event.anchor}' stands for what it is part of"
            values += of_anchor.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, values))
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            of_anchor[anchor] = values - before
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            of_anchor[event.anchor] = 1
        if len(open_) > DEEPEST:
            return f"is nested more than {DEEPEST} levels deep"
        if values > _MOST_VALUES:
            return f"holds more than {_MOST_VALUES:,} values, with what its aliases stand for"
    return None


class _Loader(_SafeLoader):
    """SafeLoader that refuses a key written twice, which YAML would silently overwrite, and one that YAML takes for no string."""

    def get_single_node(self):
        # Checked as written, before merge keys (<<) bring in further ones, which a mapping may override.
        root = super().get_single_node()
        _check_keys(root, set())
        return root


def _check_keys(node: yaml.Node | None, checked: set[int]) -> None:
    if not isinstance(node, yaml.CollectionNode) or id(node) in checked:  # what an alias names is looked at once
        return
    checked.add(id(node))
    parts = node.value
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key in (key for key, _ in node.value):
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="found unhashable key: a list or a mapping", problem_mark=key.start_mark
                )
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                kind = key.tag.rpartition(":")[2]
                told = f'key {key.value} is of YAML\'s type {kind}, not a name; write it in quotes: "{key.value}"'
                raise yaml.MarkedYAMLError(problem=told, problem_mark=key.start_mark)
            if key.value in names:
                raise yaml.MarkedYAMLError(problem=f"key '{key.value}' is written twice", problem_mark=key.start_mark)
            names.add(key.value)
        parts = [part for pair in node.value for part in pair]
    for part in parts:
        _check_keys(part, checked)
