"""The reference of the experiment file, docs/reference/experiment.md, written from the schema that checks it."""

import re
from collections.abc import Iterator
from typing import Any

from ...data.config.kinds import Kinds, experiment_type
from ...data.settings_base import MOST

_HEAD = """\
# The experiment file

Every field of the YAML file, written by `foundrank schema --markdown` from the schema that checks it.
`foundrank schema` prints the same as JSON Schema, for completion in an editor. A commented file to start from is
[examples/minimal.yaml](../../examples/minimal.yaml); what the data must look like is in [data.md](data.md).

Paths are relative to the file's folder, and may be URIs ([object-storage.md](../how-to/object-storage.md)). Keys the schema does not
know, and keys written twice, are errors.
`--set section.field=value` overrides one field on the command line. `NAME` below stands for a name you choose: a
letter, then letters, digits or `_`. A feature's name is its table's name, so a name is used once, except that several
domains may share a feature.

Where a field takes one of several kinds, the kind's name alone is short for its defaults: `head: ple` for `head: {head: ple}`. A
setting that has no effect is an error: one that only other kinds have, or one that another value switches off, as `alignment: none`
does with `alignment_weight`. What describes the data may stay unused. A `--set` that switches something off needs no more: what the
file says of it is left out.
"""
_REF = "#/$defs/"


def experiment_reference(kinds: Kinds) -> str:
    """Markdown: one section per part of the experiment, in the order of the file, one table row per field."""
    schema = experiment_type(kinds).model_json_schema()
    places: dict[str, list[str]] = {}
    for name, place in _walk(schema, "Experiment", ""):
        places.setdefault(name, []).append(place)
    titles = {name: _title(name, part, places[name][0]) for name, part in schema["$defs"].items()}
    parts = [_HEAD, *(_section(name, schema["$defs"].get(name, schema), at, titles) for name, at in places.items())]
    return "\n".join(parts).rstrip()


def _walk(schema: dict[str, Any], name: str, place: str) -> Iterator[tuple[str, str]]:
    """Every part of the experiment with each place it has in the file, depth first."""
    yield name, place
    for field, of_field in schema["$defs"].get(name, schema)["properties"].items():
        for part, below in _parts(of_field):
            yield from _walk(schema, part, f"{place}.{field}{below}".lstrip("."))


def _parts(field: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "$ref" in field:
        yield field["$ref"].removeprefix(_REF), ""
    for option in field.get("anyOf", []):
        yield from _parts(option)
    for values in field.get("patternProperties", {}).values():  # a mapping whose keys are names
        for part, below in _parts(values):
            yield part, f".NAME{below}"


def _section(name: str, schema: dict[str, Any], places: list[str], titles: dict[str, str]) -> str:
    lines = [f"## {titles.get(name, name)}", ""]
    if "description" in schema:
        lines += [_text(schema["description"]), ""]
    if places != [""]:
        lines += ["In the file: " + ", ".join(f"`{place}`" for place in dict.fromkeys(places)) + ".", ""]
    lines += ["| field | type | default | |", "| --- | --- | --- | --- |"]
    required = schema.get("required", [])
    for field, of_field in schema["properties"].items():
        default = "required" if field in required else _default(of_field)
        lines.append(
            f"| `{field}` | {_type(of_field, titles)} | {default} | {_text(of_field.get('description', ''))} |"
        )
    return "\n".join([*lines, ""])


def _title(name: str, schema: dict[str, Any], place: str) -> str:
    """``TextVectorConfig`` -> ``Text vector``; of a kind, what it is a kind of: ``Head: mmoe``, ``Feature: dense``."""
    for of_field in schema["properties"].values():
        if "const" in of_field:
            holder = place.removesuffix(".NAME").rpartition(".")[2]
            return f"{re.sub('(?<!s)s$', '', holder).replace('_', ' ').capitalize()}: {of_field['const']}"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Config")).capitalize()


def _type(field: dict[str, Any], titles: dict[str, str]) -> str:
    if "$ref" in field:
        title = titles[field["$ref"].removeprefix(_REF)].lower()
        return f"[{title}](#{title.replace(':', '').replace(' ', '-')})"
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        of_kinds = any("$ref" in option for option in field["anyOf"])  # beside their names, which are short for them
        options = [option for option in field["anyOf"] if option.get("type") != "null"]
        return " or ".join(_type(option, titles) for option in options if not (of_kinds and "enum" in option))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    kind = field.get("type")
    if kind == "object":
        return "mapping, `NAME` to " + " or ".join(
            _type(values, titles) for values in field["patternProperties"].values()
        )
    if kind == "array":
        return f"list of {_type(field['items'], titles)}"
    if kind == "string":
        return "name" if "pattern" in field else "string"
    if kind in ("integer", "number"):
        return " ".join([kind, *_bounds(field)])
    return str(kind)


def _bounds(field: dict[str, Any]) -> list[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {field[key]:g}" for key, sign in signs.items() if field.get(key, MOST) != MOST]
    return [_text(", ".join(bounds))] if bounds else []


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:  # made anew for each file: an empty mapping, or a part with its own defaults
        return "empty" if field.get("type") == "object" else "its defaults"
    value = field["default"]
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):  # a kind, which its first setting names
        return f"`{next(iter(value.values()))}`"
    return f"`[{', '.join(map(str, value))}]`" if isinstance(value, list) else f"`{value}`"


def _text(text: str) -> str:
    """Text for a table cell: one line, and nothing in it that Markdown takes for a tag or a column."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
