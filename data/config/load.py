"""Reading an experiment file: YAML, ``--set`` overrides, checks, absolute paths."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import UserError, nearest
from ..storage import storage
from ..storage.file_systems import is_uri, refuse_secrets
from .experiment import Experiment
from .locations import change_locations
from .yaml_reader import DEEPEST, MOST_BYTES, read_yaml


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read, override, check and resolve an experiment.

    Args:
        path: the YAML file, or its URI. Paths inside it are relative to its folder and come back absolute.
        overrides: ``key=value`` strings, keys dotted (``training.epochs=1``), values read as YAML; several in one
            string are separated by ``;``.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown, a value has the wrong type,
            or the parts contradict each other. Nothing but this file has been read by then.
    """
    if storage.is_folder(path):
        path = storage.join(path, "experiment.yaml")
    if (text := storage.read(path, MOST_BYTES + 1)) is None:
        raise UserError(
            path, "no such experiment file", "Give the path of a YAML file, or of a folder with experiment.yaml in it."
        )
    raw = read_yaml(text, str(path), "Correct the file at that line.")
    if not isinstance(raw, dict):
        raise UserError(path, "holds no mapping", "Start from one of examples/ or from what `foundrank import` writes.")
    for override in overrides:
        for assignment in _assignments(override):
            _set(raw, assignment)
    _check_strings(raw, f"{path}: ")
    experiment = _parse(raw, path)
    _check_parts(experiment, path)
    return _resolve(experiment, storage.parent(path))


def dump_experiment(experiment: Experiment) -> str:
    """The resolved experiment as YAML that `load_experiment` reads back to an equal object."""
    return yaml.safe_dump(
        experiment.model_dump(mode="json", exclude_none=True), sort_keys=False, width=120, allow_unicode=True
    )


_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\']|\'\')*\'', re.DOTALL)


def _assignments(override: str) -> list[str]:
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


def _set(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise UserError(
            f"--set {override}",
            "is not key=value",
            "Write e.g. --set training.epochs=1; a value that has a semicolon goes in quotes.",
        )
    *parents, last = key.strip().split(".")
    if len(parents) > DEEPEST:
        raise UserError(f"--set {override}", f"has more than {DEEPEST} parts", "docs/experiment.md lists every field.")
    at = raw
    for part in parents:
        if at.get(part) is None:
            at[part] = {}
        at = at[part]
        if not isinstance(at, dict):
            raise UserError(f"--set {override}", f"'{part}' is a value, not a section", "Set that key itself.")
    at[last] = read_yaml(value, f"--set {override}", "Quote the value, e.g. --set 'name=\"a: b\"'")


def _check_strings(value: Any, at: str) -> None:
    """Looks through all strings of an experiment, before an error could show a password."""
    if isinstance(value, str):
        refuse_secrets(value, at.rstrip("."))
        if "\0" in value or (not value.isprintable() and any("\ud800" <= char <= "\udfff" for char in value)):
            raise UserError(at.rstrip("."), "holds a character that no file's name or text has", "Remove it.")
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        _check_strings(inner, f"{at}{key}.")


def _parse(raw: dict[str, Any], path: str | Path) -> Experiment:
    try:
        return Experiment.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        more = f" ({error.error_count() - 1} more after this one)" if error.error_count() > 1 else ""
        location = [str(part) for part in first["loc"] if part != "[key]"]
        where = f"{path}: {'.'.join(location) or 'the file'}"
        if first["type"] == "extra_forbidden":
            remedy = nearest(location[-1], _known_keys(Experiment, location[:-1]))
            raise UserError(where, f"unknown key '{location[-1]}'{more}", remedy) from error
        if first["type"] == "missing":
            raise UserError(
                where,
                f"'{location[-1]}' is required and missing{more}",
                "Add it; docs/experiment.md lists every field.",
            ) from error
        given = first.get("input")
        shown = f" (got {_short(given)})" if isinstance(given, str | int | float | bool | date) else ""
        message = first["msg"].removeprefix("Value error, ")
        remedy = "docs/experiment.md lists every field and what it takes."
        if first["type"] == "string_type" and isinstance(given, int | float | date):
            remedy = f"YAML takes it for a {type(given).__name__}, no text; write it in quotes."
        raise UserError(where, f"{message}{shown}{more}", remedy) from error


def _short(value: Any) -> str:
    """A value as YAML has it; of a very long number, that it is one, for Python refuses to write it."""
    if isinstance(value, int) and abs(value) > 1 << 200:
        return "a number of more than 60 digits"
    text = str(value) if isinstance(value, date) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _known_keys(model: type[BaseModel], location: Iterable[str]) -> list[str]:
    """Field names of the section at ``location``."""
    annotation: Any = model
    for part in location:
        if get_origin(annotation) is dict:  # its keys are names the user chose
            annotation = get_args(annotation)[1]
        else:
            annotation = next(_models_in(annotation)).model_fields[part].annotation
    return list(next(_models_in(annotation)).model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _check_parts(experiment: Experiment, path: str | Path) -> None:
    """What one section alone cannot know."""
    entities = experiment.entities
    if experiment.text.vectors == "none" and experiment.model.aspects == ("text",):
        raise UserError(f"{path}: text.vectors", "is 'none', and model.aspects is text alone", "Add another aspect.")
    _check_sequences(experiment, path)
    for name in experiment.only:
        if name not in experiment.domains:
            raise UserError(f"{path}: only", f"'{name}' is none of the domains", nearest(name, experiment.domains))
    if experiment.training.freeze and experiment.init_from is None:
        raise UserError(
            f"{path}: training.freeze",
            "freezes what was never trained",
            "Say with init_from which run to fine-tune, or remove `freeze`.",
        )
    if "L0" in experiment.training.freeze and experiment.training.sparse_optimizer != "rowwise_adagrad":
        raise UserError(
            f"{path}: training.freeze",
            f"has L0, the tables, where new ids learn and known ones stay, which {experiment.training.sparse_optimizer} cannot do",
            "Use training.sparse_optimizer rowwise_adagrad, or do not freeze L0.",
        )
    for name, domain in experiment.domains.items():
        if domain.kind == "search" and entities.query is None:
            raise UserError(
                f"{path}: domains.{name}.kind",
                "is 'search', but entities.query is missing",
                "Describe the query entity, or write kind: recommendation.",
            )
        for feature_name, feature in domain.features.items():
            where = f"{path}: domains.{name}.features.{feature_name}"
            if feature.source == "catalog":
                raise UserError(
                    where,
                    "has source: catalog",
                    "A domain's own features come from its events; put catalog features under entities.",
                )
            if feature.entity == "query" and entities.query is None:
                raise UserError(
                    where,
                    "belongs to the query, but entities.query is missing",
                    "Describe the query entity or choose another entity.",
                )
    for name, feature in experiment.context.items():
        if feature.source == "catalog":
            raise UserError(
                f"{path}: context.{name}",
                "has source: catalog",
                "Context features come from the events; put catalog features under entities.",
            )
    _check_shared_names(experiment, path)


def _check_sequences(experiment: Experiment, path: str | Path) -> None:
    """What encoders of the history and the next-item objective need."""
    model, history = experiment.model, experiment.entities.user.history
    if history is None and model.past:
        raise UserError(
            f"{path}: model.history.encoder",
            f"is '{model.history.encoder}', but rows have no history",
            "Describe it under entities.user.history, or leave the encoder at mean.",
        )
    if model.history.time_bias and history is not None and history.times is None:
        raise UserError(
            f"{path}: model.history.time_bias",
            "needs to know when past items were",
            "Name the events column with their times as entities.user.history.times.",
        )
    _check_past_features(experiment, path)
    for name, domain in experiment.domains.items():
        if not domain.tasks and model.next_item is None:
            raise UserError(
                f"{path}: domains.{name}.tasks",
                "is empty, so there is nothing to learn",
                "Name at least one label, or add model.next_item.",
            )


def _check_past_features(experiment: Experiment, path: str | Path) -> None:
    """Past items have those features that the catalog knows of any item."""
    item, field = experiment.entities.item, f"{path}: model.history.features"
    fit = {n for n, f in item.features.items() if item.comes_from_catalog(f) and f.kind != "vector"}
    if experiment.model.history.features and "sparse" not in experiment.model.aspects:
        raise UserError(
            field, "has no part without the sparse aspect", "Add sparse to model.aspects, or name no features."
        )
    for name in experiment.model.history.features:
        if name not in fit:
            raise UserError(
                field, f"'{name}' is no categorical, list or dense feature from the item catalog", nearest(name, fit)
            )


def _check_shared_names(experiment: Experiment, path: str | Path) -> None:
    """A feature name means one table: wherever it comes back it must be the same kind of thing."""
    seen: dict[str, tuple[str, tuple]] = {}
    places = [(f"entities.{e}.features", c.features) for e, c in experiment.entities.present().items()]
    places += [("context", experiment.context)]
    places += [(f"domains.{d}.features", c.features) for d, c in experiment.domains.items()]
    for place, features in places:
        for name, feature in features.items():
            in_domain = place.startswith("domains.")
            meaning = (
                feature.kind,
                feature.encoding,
                feature.size,
                feature.transform,
                getattr(feature, "entity", place),
            )
            if name in seen and (not in_domain or not seen[name][0].startswith("domains.") or seen[name][1] != meaning):
                raise UserError(
                    f"{path}: {place}.{name}",
                    f"the name is already used in {seen[name][0]} for another feature",
                    "Rename one; only domains may share a feature, with the same kind, encoding, entity and size.",
                )
            seen.setdefault(name, (place, meaning))


def _resolve(experiment: Experiment, root: str) -> Experiment:
    raw = experiment.model_dump(mode="json", exclude_none=True)
    if only := raw.pop("only"):
        raw["domains"] = {name: domain for name, domain in raw["domains"].items() if name in only}
    change_locations(raw, lambda location: storage.resolved(location, root))
    for entity in raw["entities"].values():
        if "catalog" in entity:
            entity["catalog"].setdefault("bad_data", raw["bad_data"])
    if experiment.text.vectors == "none":
        raw["model"]["aspects"] = [aspect for aspect in experiment.model.aspects if aspect != "text"]
    encoder = Path(root, raw["text"]["encoder"])
    if not is_uri(root) and encoder.is_dir():
        raw["text"]["encoder"] = str(encoder)
    return Experiment.model_validate(raw)
