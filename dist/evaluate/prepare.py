"""What an evaluation does before there are ranks: it finds mistakes.

Imports little, so that the process that launches the ranks need not wait for TorchRec.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...data.config.experiment import Experiment
from ...data.config.kinds import Kinds
from ...data.errors import UserError
from ...data.events.check_events import check_events
from ...data.events.event_files import EventFiles
from ...data.storage.file_systems import Location
from ...data.storage.mirror import mirrored
from ...model.kinds import KINDS
from ..retrieval.protocol import Protocol
from ..run.kept_checkpoints import best_of_members
from ..run.run_folder import check_open_to_write, id_types_of, open_experiment
from .column_slices import check_slices


@dataclass(frozen=True)
class EvaluationJob:
    """What ranks evaluate: resolved and checked before they begin.

    Attributes:
        experiment: of the run.
        run: the run folder, or its URI.
        split: ``train``, ``validation`` or ``test``.
        events: domain -> split -> files, of training and of ``split``.
        keeps: whether predictions are written into the run's folder.
        protocol: among which items the next one is sought; where it names a domain, rows of others are not looked at.
        slices: columns of the events by which rows are sliced, too.
    """

    experiment: Experiment
    run: Location
    split: str
    events: dict[str, dict[str, EventFiles]]
    keeps: bool = False
    protocol: Protocol = field(default_factory=Protocol)
    slices: tuple[str, ...] = ()

    @property
    def files(self) -> dict[str, EventFiles]:
        """domain -> its files of ``split``."""
        mine = self.protocol.domain
        return {
            name: of_domain[self.split]
            for name, of_domain in self.events.items()
            if self.split in of_domain and mine in (None, name)
        }

    @property
    def files_of_candidates(self) -> dict[str, EventFiles]:
        """domain -> its training files, of those in ``files``, where these say which items take part."""
        if self.protocol.domain is None and not self.protocol.within_domains(self.experiment):
            return {}
        return {name: self.events[name]["train"] for name in self.files if "train" in self.events[name]}

    @property
    def folder(self) -> Path:
        """Where this machine has the run folder."""
        return mirrored(self.run, "read")


def prepare_evaluation(
    run: Location,
    split: str,
    kinds: Kinds = KINDS,
    writes: bool = True,
    keeps: bool = False,
    protocol: Protocol | None = None,
    slices: Sequence[str] = (),
) -> EvaluationJob:
    """Checks a run, whose experiment could choose from ``kinds``, and the events to measure it with; it ``keeps`` predictions, or not.

    Where it does not ``write``, whether a bucket takes files is not tried out.

    Raises:
        UserError: no run, one without a checkpoint or that cannot be written to, no such split, or bad events.
    """
    job = open_to_evaluate(run, split, ("train", split), kinds, keeps, protocol, slices)
    check_open_to_write(job.folder, tries=writes)
    return job


def open_to_evaluate(
    run: Location,
    split: str,
    splits: Sequence[str],
    kinds: Kinds = KINDS,
    keeps: bool = False,
    protocol: Protocol | None = None,
    slices: Sequence[str] = (),
) -> EvaluationJob:
    """As `prepare_evaluation`, of a run that may not be written to; ``splits`` are those that are read.

    Raises:
        UserError: as that, but for a run that cannot be written to.
    """
    folder = mirrored(run, "read")
    experiment = open_experiment(folder, kinds)
    best_of_members(folder)
    protocol = protocol or Protocol()
    protocol.check(experiment, run)
    mine = [domain for name, domain in experiment.domains.items() if protocol.domain in (None, name)]
    if not any(getattr(domain.events, split, None) for domain in mine):
        raise UserError(
            run,
            f"no domain has a '{split}' split"
            if protocol.domain is None
            else f"{protocol.domain} has no '{split}' split",
            "Choose train, validation or test, whichever the experiment's events name.",
        )
    if protocol.within_domains(experiment):
        splits = ("train", *splits)
    events = check_events(experiment, tuple(dict.fromkeys(splits)), held=id_types_of(folder))
    job = EvaluationJob(experiment, run, split, events, keeps, protocol, tuple(dict.fromkeys(slices)))
    check_slices(job.slices, job.files)
    return job
