"""What is tried: settings of the experiment, and for each a range or a list of values."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from ...data.config.experiment import Experiment
from ...data.config.kinds import kinds_of
from ...data.config.load import load_experiment, plain
from ...data.config.yaml_reader import read_yaml
from ...data.errors import UserError
from ...data.settings_base import Strict

Number = int | float
# What decides which rows trials are judged on, how many models one has, or whether it can be judged at all.
_NOT_TRIED = re.compile(
    r"(name|seed|seeds|only|init_from|events|training\.keep_best|domains(\.[^.]+(\.events)?)?)|(domains\.[^.]+\.|)events\..*"
)


class Setting(Strict):
    """The values that one setting is given; exactly one of the three. Two whole numbers as ends make whole numbers."""

    linear: tuple[Number, Number] | None = Field(default=None, description="from, to; evenly")
    log: tuple[Number, Number] | None = Field(default=None, description="from, to; evenly on a logarithmic scale")
    choice: tuple[Any, ...] | None = Field(default=None, min_length=1, description="one of these")

    @model_validator(mode="after")
    def _one_of_them(self):
        if sum(part is not None for part in (self.linear, self.log, self.choice)) != 1:
            raise ValueError("give one of linear: [from, to], log: [from, to], choice: [...]")
        ends = self.ends
        if ends is not None and not ends[0] < ends[1]:
            raise ValueError(f"{ends[0]} is not below {ends[1]}")
        if ends is not None and not all(math.isfinite(end) for end in ends):
            raise ValueError("an end is no number")
        if self.log is not None and self.log[0] <= 0:
            raise ValueError("a logarithmic scale begins above 0")
        return self

    @property
    def ends(self) -> tuple[int | float, int | float] | None:
        """The ends of a range; None of a list."""
        return self.linear or self.log

    def with_(self, own: Any) -> "Setting":
        """The same, made so wide that the experiment's own value is among them, where a range can have it."""
        if self.choice is not None:
            return self if self.has(own) else Setting(choice=(own, *self.choice))
        ends = self.ends
        if ends is None or isinstance(own, bool) or not isinstance(own, int | float):
            return self
        low, high = min(ends[0], own), max(ends[1], own)
        return Setting(linear=(low, high)) if self.log is None else Setting(log=(low, high)) if low > 0 else self

    def has(self, own: Any) -> bool:
        """Whether a value of the experiment is one of these."""
        if self.choice is not None:
            return own in self.choice
        ends = self.ends
        assert ends is not None
        return not isinstance(own, bool) and isinstance(own, int | float) and ends[0] <= own <= ends[1]

    def tried_first(self) -> list[Any]:
        """Values that find out whether the experiment takes all of them."""
        return list(self.choice) if self.choice is not None else list(self.ends or ())


Space = dict[str, Setting]
"""Dotted key of the experiment -> its values."""


def usual_space(rows: int) -> Space:
    """What is tried where nothing else is asked for, by the rows of training: more rows, larger batches and fewer epochs.

    Args:
        rows: of training, all domains together.
    """
    middle = min(max(2 ** round(math.log2(512 * math.sqrt(max(rows, 1) / 80_000))), 256), 16_384)
    most_epochs = 6 if rows < 300_000 else 4 if rows < 3_000_000 else 3 if rows < 30_000_000 else 2
    raw = {
        "training.learning_rate": {"log": [2e-4, 2e-2]},
        "training.sparse_learning_rate": {"log": [2e-3, 0.1]},
        "training.epochs": {"linear": [1, most_epochs]},
        "training.batch_size": {"choice": [middle // 2, middle, middle * 2]},
        "model.head.dropout": {"linear": [0.0, 0.4]},
        "model.id_dropout": {"linear": [0.0, 0.5]},
        "model.embedding_dim": {"choice": [16, 32, 64]},
        "model.width": {"choice": [32, 64, 128]},
    }
    return {key: Setting.model_validate(each) for key, each in raw.items()}


def read_space(path: Path) -> Space:
    """The space of a YAML file: ``training.learning_rate: {log: [1e-4, 1e-1]}``, a line for each setting.

    Raises:
        UserError: no such file, or something in it is wrong.
    """
    if not path.is_file():
        raise UserError(
            path, "no such file", "Give a YAML file, e.g. with training.learning_rate: {log: [0.0001, 0.1]}"
        )
    raw = read_yaml(path.read_bytes(), str(path), "Correct the file at that line.")
    if not isinstance(raw, dict) or not raw:
        raise UserError(path, "names no setting", "Write e.g. training.learning_rate: {log: [0.0001, 0.1]}")
    return _checked(path, raw)


def _checked(path: Path, raw: Mapping[str, Any]) -> Space:
    try:
        return TypeAdapter(Space).validate_python(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = str(first["loc"][0])
        what = first["msg"].removeprefix("Value error, ")
        remedy = "Write linear: [from, to], log: [from, to] or choice: [value, ...]."
        raise UserError(f"{path}: {key}", f"is no range of values: {what}", remedy) from error


def fitted(space: Space, experiment: str, overrides: Sequence[str], loaded: Experiment, given: Path | None) -> Space:
    """The space for one experiment: with its own values among those tried.

    Args:
        space: as asked for, or the usual one.
        experiment: the file, or its folder or URI.
        overrides: of ``--set``.
        loaded: the experiment that these make.
        given: the file of the space; None where it is the usual one, of which is left out what the experiment has no use for.

    Raises:
        UserError: the experiment does not take a key or one of its values, or trials that differ in it cannot be compared.
    """
    found: Space = {}
    raw = plain(loaded)
    for key, setting in space.items():
        if _NOT_TRIED.fullmatch(key):
            what = "is the same in all trials, or they could not be compared"
            raise UserError(f"{given}: {key}", what, "Leave it out of the space; --set changes it for all trials.")
        try:
            for value in setting.tried_first():
                load_experiment(experiment, [*overrides, assignment(key, value)], kinds=kinds_of(loaded))
        except UserError as error:
            if given is None:
                continue
            raise UserError(f"{given}: {key}", f"{error.where}: {error.what}", error.remedy) from error
        found[key] = setting.with_(own_value(raw, key))
    if not found:
        raise UserError(experiment, "has no setting that the usual space changes", "Give your own with --space FILE.")
    return found


def own_value(raw: Mapping[str, Any], key: str) -> Any:
    """What a plain experiment has at a dotted key, a kind without settings of its own by its name; None for nothing."""
    at: Any = raw
    for part in key.split("."):
        at = at.get(part) if isinstance(at, Mapping) else None
    return next(iter(at.values())) if isinstance(at, Mapping) and len(at) == 1 else at


def assignment(key: str, value: Any) -> str:
    """A setting and its value as for ``--set``."""
    return f"{key}={json.dumps(value)}"
