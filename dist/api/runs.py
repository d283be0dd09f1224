"""A trained run, as Python sees it."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.kinds import Kinds
from foundrank.data.storage.file_systems import Location, refuse_secrets
from foundrank.data.storage.mirror import mirrored
from foundrank.dist.promote.promote import current_run
from foundrank.dist.run.run_folder import METRICS, open_experiment, read_metrics
from foundrank.model.kinds import KINDS


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        location: the folder, or its URI.
        kinds: what its experiment could choose from.
        stopped_after: the step after which a training was asked to stop, by a signal of a scheduler; trained again, it goes
            on from there. None where it is finished.
    """

    location: Location
    kinds: Kinds = field(default=KINDS, repr=False)
    stopped_after: int | None = None

    @property
    def folder(self) -> Path:
        """Where this machine has it."""
        return mirrored(self.location, "read")

    @property
    def experiment(self) -> Experiment:
        """What was trained, resolved.

        Raises:
            UserError: there is no run.
        """
        return open_experiment(self.folder, self.kinds)

    def metrics(self) -> list[dict[str, Any]]:
        """What training has logged, a dict for every ``training.log_every`` steps: ``step``, ``loss``, ``samples_per_s``, ..."""
        open_experiment(self.folder, self.kinds)
        return read_metrics(self.folder / METRICS)[0]

    def __fspath__(self) -> str:
        return os.fspath(self.location)


def current_at(run: Run | Location, kinds: Kinds | None) -> Run:
    """As `run_at`; of a folder that a run was promoted to, that run.

    Raises:
        UserError: the URI holds a password, or the run is not what was promoted.
    """
    found = run_at(run, kinds)
    return replace(found, location=current_run(found.location))


def run_at(run: Run | Location, kinds: Kinds | None) -> Run:
    """A run, its folder or its URI as a run; ``kinds`` where it does not say itself what it could choose from.

    Raises:
        UserError: the URI holds a password.
    """
    if isinstance(run, Run):
        return run if kinds is None else replace(run, kinds=kinds)
    refuse_secrets(os.fspath(run), "the run")
    return Run(run, kinds or KINDS)
