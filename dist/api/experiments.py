"""Experiments from Python."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foundrank.data.config import load
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.kinds import Kinds
from foundrank.model.kinds import KINDS


def load_experiment(experiment: str | Path | Mapping[str, Any], *, kinds: Kinds = KINDS, **changes: Any) -> Experiment:
    """Reads, changes, checks and resolves an experiment.

    Args:
        experiment: its YAML file, the folder or the URI of one; or the same as a dict, whose paths are relative to the working
            folder.
        kinds: what it may choose from, e.g. ``KINDS.with_(heads={"mine": Mine})``.
        changes: to what it says, e.g. ``training={"epochs": 1}, seed=7``; as of ``--set``, a dict changes what is in it and
            leaves the rest.

    Raises:
        UserError: no such file, an unknown key, a value of the wrong type, or parts that contradict each other.
    """
    return load.load_experiment(experiment, list(assignments_of(changes)), kinds=kinds)


def assignments_of(changes: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """As of ``--set``; what JSON writes on one line YAML reads as the same."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and value:
            yield from assignments_of(value, f"{at}{key}.")
        else:
            yield f"{at}{key}={json.dumps(value, default=str)}"
