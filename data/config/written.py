"""What was written of an experiment, in its file and by ``--set``, and the experiment that it makes."""

from copy import deepcopy
from typing import Any

from pydantic import ValidationError

from ..errors import UserError
from ..storage import storage
from .effects import is_given, remove, without_effect
from .experiment import Experiment
from .kinds import seam_of
from .locations import expand_events
from .mistakes import explained, of_other_kinds
from .old_keys import take_over_old_keys, take_over_old_runs
from .overrides import apply
from .places import annotation_at

DECIDED = "default, or less by data size"
"""Source of what a training decides when it begins, if nobody has written it."""


class Written:
    """A file's plain dict, and changes to it.

    Attributes:
        raw: what is written, by keys of today.
        old_keys: key of today -> the one in its place in the file: an old one, or ``events`` for those of a domain.
        by_set: keys of today that ``--set`` has changed.
        unknown_then: of a run, keys that the version which made it did not know; in ``raw`` they are what it meant.
    """

    def __init__(self, raw: dict[str, Any], root: type[Experiment], where: str, folder: str):
        """Args: what the file says, the experiment's type, the file for errors, and its folder."""
        self.raw, self._root, self._where, self._folder = raw, root, where, folder
        self.old_keys = take_over_old_keys(raw, root, where)
        self._in_file = deepcopy(raw)
        self.by_set: list[str] = []
        self.unknown_then: list[str] = []

    def set(self, assignment: str) -> None:
        """Changes one key by ``key=value``, as `overrides.apply`."""
        key = apply(self.raw, assignment, self._root)
        self.by_set.append(key)
        self.old_keys.pop(key, None)
        self.old_keys |= take_over_old_keys(self.raw, self._root, f"--set {assignment}")

    def expand_events(self) -> None:
        """Gives domains that name no events those of the one pattern, as `locations.expand_events`."""
        self.old_keys |= dict.fromkeys(expand_events(self.raw, self._folder, self._where), "events")

    def experiment(self) -> Experiment:
        """The experiment, each section checked by itself.

        What the file says and a ``--set`` has made useless is left out: ``--set model.gate=none`` makes another model of the same file.
        So is what is useless in the file of a run.

        Raises:
            UserError: something is wrong with a key or its value, or a setting has no effect.
        """
        experiment = self._checked()
        every = without_effect(experiment)
        if self._is_of_run() and (keys := take_over_old_runs(self.raw, self._root, every)):
            self.unknown_then += keys
            return self.experiment()
        useless = {key: need for key, need in every.items() if is_given(self.raw, key)}
        if not useless:
            return experiment
        for key, need in useless.items():
            if self._by_set(key) or (self._useless_in_file(key) and not self._is_of_run()):
                raise UserError(
                    f"{self._where}: {self._key_in_file(key)}",
                    f"has no effect without {need}",
                    "Remove it, or change that.",
                )
        for key in useless:
            remove(self.raw, key)
        return self.experiment()

    def source(self, key: str) -> str:
        """Where the value of a key of today comes from: ``--set``, ``file``, with the old key it has there, or ``default``."""
        *section, last = key.split(".")
        if not is_given(self.raw, key):
            seam = seam_of(annotation_at(self.raw, self._root, section))
            if seam is None or last != seam.by or not is_given(self.raw, ".".join(section)):
                # and else it is a kind, told by its name alone
                return DECIDED if key == "training.batch_size" else "default"
        if any(f"{key}.".startswith(f"{each}.") for each in self.by_set):
            return "--set"
        return f"file, as {self.old_keys[key]}" if key in self.old_keys else "file"

    def _checked(self) -> Experiment:
        try:
            return self._root.model_validate(self.raw)
        except ValidationError as error:
            surplus = [key for key in of_other_kinds(error, self._root) if not self._by_set(key)]
            if not surplus or not self._is_of_run():
                raise explained(error, self._root, self._where, self.old_keys) from error
        for key in surplus:
            remove(self.raw, key)
        return self._checked()

    def _is_of_run(self) -> bool:
        """Whether a training wrote the file: its vocabulary lies beside it."""
        return storage.is_file(storage.join(self._folder, "vocabulary", "statistics.json"))

    def _key_in_file(self, key: str) -> str:
        return next((old for new, old in self.old_keys.items() if f"{new}.".startswith(f"{key}.")), key)

    def _by_set(self, key: str) -> bool:
        return any(f"{key}.".startswith(f"{each}.") or each.startswith(f"{key}.") for each in self.by_set)

    def _useless_in_file(self, key: str) -> bool:
        raw = deepcopy(self._in_file)
        try:
            expand_events(raw, self._folder, self._where)
            alone = self._root.model_validate(raw)
        except (UserError, ValidationError):  # what is missing came by --set
            return False
        return is_given(self._in_file, key) and key in without_effect(alone)
