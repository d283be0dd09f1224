"""What an evaluation does before there are ranks: it finds mistakes.

Imports little, so that the process that launches the ranks need not wait for TorchRec.
"""

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
    """

    experiment: Experiment
    run: Location
    split: str
    events: dict[str, dict[str, EventFiles]]

    @property
    def folder(self) -> Path:
        """Where this machine has the run folder."""
        return mirrored(self.run, "read")


def prepare_evaluation(run: Location, split: str, kinds: Kinds = KINDS, writes: bool = True) -> EvaluationJob:
    """Checks a run, whose experiment could choose from ``kinds``, and the events to measure it with.

    Where it does not ``write``, whether a bucket takes files is not tried out.

    Raises:
        UserError: no run, one without a checkpoint or that cannot be written to, no such split, or bad events.
    """
    folder = mirrored(run, "read")
    experiment = open_experiment(folder, kinds)
    best(folder)
    check_open_to_write(folder, tries=writes)
    if not any(getattr(domain.events, split, None) for domain in experiment.domains.values()):
        raise UserError(
            run,
            f"no domain has a '{split}' split",
            "Choose train, validation or test, whichever the experiment's events name.",
        )
    return EvaluationJob(experiment, run, split, check_events(experiment, ("train", split), held=id_types_of(folder)))
