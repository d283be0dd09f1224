"""Reading an experiment file: YAML, ``--set`` overrides, checks, absolute paths."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError
from ..storage import storage
from ..storage.file_systems import is_uri, refuse_secrets
from .checks import check_parts
from .effects import remove, without_effect
from .experiment import Experiment
from .kinds import Kinds, experiment_type
from .locations import change_locations
from .old_keys import BEFORE, says
from .overrides import assignments
from .sections.prefix import check_prefix
from .written import Written
from .yaml_reader import MOST_BYTES, read_yaml


def load_experiment(path: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, kinds: Kinds) -> Experiment:
    """Read, override, check and resolve an experiment.

    In a run's folder, what had no effect is left out, for trainings of older versions wrote that too. Elsewhere it is refused.

    Args:
        path: the YAML file, or its URI. Paths inside it are relative to its folder and come back absolute. Or what such a file
            holds, whose paths are relative to the working folder.
        overrides: ``key=value`` strings, keys dotted (``training.epochs=1``), values read as YAML; several in one
            string are separated by ``;``.
        kinds: what it may choose from.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown, a value has the wrong type, a setting is without effect,
            or the parts contradict each other. Nothing but this file has been read by then.
    """
    return load_written(path, overrides, kinds=kinds)[0]


def load_written(
    path: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, kinds: Kinds
) -> tuple[Experiment, Written]:
    """`load_experiment`, and what was written of it where."""
    if isinstance(path, Mapping):
        raw, where, folder = deepcopy(dict(path)), "the experiment", str(Path.cwd())
    else:
        raw, where = _read(path)
        folder = storage.parent(where)
    written = Written(raw, experiment_type(kinds), where, folder)
    for override in overrides:
        for assignment in assignments(override):
            written.set(assignment)
    _check_strings(raw, f"{where}: ")
    written.expand_events()
    experiment = written.experiment()
    check_parts(experiment, where)
    without_vectors = experiment.entities.embedded().keys() - experiment.stored().keys()
    of_rows = (experiment.entities, experiment.in_use(), experiment.context)
    check_prefix(experiment.model, *of_rows, without_vectors, where)
    return _resolve(experiment, folder), written


def _read(path: str | Path) -> tuple[dict[str, Any], str]:
    """What a file holds, and where it is."""
    if storage.is_folder(path):
        path = storage.join(path, "experiment.yaml")
    if (text := storage.read(path, MOST_BYTES + 1)) is None:
        raise UserError(
            path, "no such experiment file", "Give the path of a YAML file, or of a folder with experiment.yaml in it."
        )
    raw = read_yaml(text, str(path), "Correct the file at that line.")
    if not isinstance(raw, dict):
        raise UserError(path, "holds no mapping", "Start from one of examples/ or from what `foundrank import` writes.")
    return raw, str(path)


def dump_experiment(experiment: Experiment) -> str:
    """The resolved experiment as YAML that `load_experiment` reads back to an equal object."""
    return yaml.safe_dump(plain(experiment), sort_keys=False, width=120, allow_unicode=True)


def plain(experiment: Experiment) -> dict[str, Any]:
    """The experiment as a plain dict, without what has no effect in it."""
    raw = experiment.model_dump(mode="json", exclude_none=True)
    for key in without_effect(experiment):
        remove(raw, key)
    return raw


def _check_strings(value: Any, at: str) -> None:
    """Looks through all strings of an experiment, before an error could show a password."""
    if isinstance(value, str):
        refuse_secrets(value, at.rstrip("."))
        if "\0" in value or (not value.isprintable() and any("\ud800" <= char <= "\udfff" for char in value)):
            raise UserError(at.rstrip("."), "holds a character that no file's name or text has", "Remove it.")
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        _check_strings(inner, f"{at}{key}.")


def _resolve(experiment: Experiment, root: str) -> Experiment:
    raw = experiment.model_dump(mode="json", exclude_none=True)
    if not experiment.training.says_batch_size:  # and it stays silent: the data decides
        del raw["training"]["batch_size"]
    for key in BEFORE:
        if not says(experiment, key):  # so does it, lest a run of an older version is taken for another
            remove(raw, key)
    if only := raw.pop("only"):
        raw["domains"] = {name: domain for name, domain in raw["domains"].items() if name in only}
    change_locations(raw, lambda location: storage.resolved(location, root))
    for entity in raw["entities"].values():
        if "catalog" in entity:
            entity["catalog"].setdefault("bad_data", raw["bad_data"])
    raw["model"]["aspects"] = experiment.aspects_in_use()
    contents = [content for entity in raw["entities"].values() for content in entity["contents"].values()]
    for settings in (raw["text"], *contents):
        encoder = Path(root, settings.get("encoder") or "")
        if not is_uri(root) and "encoder" in settings and encoder.is_dir():
            settings["encoder"] = str(encoder)
    return type(experiment).model_validate(raw)
