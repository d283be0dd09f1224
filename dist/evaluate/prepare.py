"""What an evaluation does before there are ranks: it finds mistakes.

Imports little, so that the process that launches the ranks need not wait for TorchRec.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...data.config.experiment import Experiment
from ...data.config.kinds import Kinds
from ...data.errors import UserError
from ...data.events.check_events import check_events
from ...data.events.event_files import EventFiles
from ...data.storage.file_systems import Location
from ...data.storage.mirror import mirrored
from ...model.kinds import KINDS
from ..run.kept_checkpoints import best
from ..run.run_folder import check_open_to_write, id_types_of, open_experiment


@dataclass(frozen=True)
class EvaluationJob:
    """What ranks evaluate: resolved and checked before they begin.

    Attributes:
        experiment: of the run.
        run: the run folder, or its URI.
        split: ``train``, ``validation`` or ``test``.
        events: domain -> split -> files, of training and of ``split``.
        keeps: whether predictions are written into the run's folder.
    """

    experiment: Experiment
    run: Location
    split: str
    events: dict[str, dict[str, EventFiles]]
    keeps: bool = False

    @property
    def folder(self) -> Path:
        """Where this machine has the run folder."""
        return mirrored(self.run, "read")


def prepare_evaluation(
    run: Location, split: str, kinds: Kinds = KINDS, writes: bool = True, keeps: bool = False
) -> EvaluationJob:
    """Checks a run, whose experiment could choose from ``kinds``, and the events to measure it with; it ``keeps`` predictions, or not.

    Where it does not ``write``, whether a bucket takes files is not tried out.

    Raises:
        UserError: no run, one without a checkpoint or that cannot be written to, no such split, or bad events.
    """
    job = open_to_evaluate(run, split, ("train", split), kinds, keeps)
    check_open_to_write(job.folder, tries=writes)
    return job


def open_to_evaluate(
    run: Location, split: str, splits: Sequence[str], kinds: Kinds = KINDS, keeps: bool = False
) -> EvaluationJob:
    """As `prepare_evaluation`, of a run that may not be written to; ``splits`` are those that are read.

    Raises:
        UserError: as that, but for a run that cannot be written to.
    """
    folder = mirrored(run, "read")
    experiment = open_experiment(folder, kinds)
    best(folder)
    if not any(getattr(domain.events, split, None) for domain in experiment.domains.values()):
        raise UserError(
            run,
            f"no domain has a '{split}' split",
            "Choose train, validation or test, whichever the experiment's events name.",
        )
    events = check_events(experiment, tuple(dict.fromkeys(splits)), held=id_types_of(folder))
    return EvaluationJob(experiment, run, split, events, keeps)
