"""What a training does before there are ranks: it finds mistakes, counts the events and makes the run folder.

Imports little, so that the process that launches the ranks need not wait for TorchRec.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...data.batch.rate_counting import count_rates
from ...data.batch.row_encoder import RowEncoder
from ...data.config.experiment import Experiment
from ...data.config.kinds import kinds_of
from ...data.config.load import load_experiment
from ...data.config.sections.training import TrainingConfig
from ...data.counting.by_size import by_size, with_batch_size
from ...data.counting.counting_pass import count
from ...data.counting.statistics import SKIPPED, Statistics
from ...data.errors import UserError
from ...data.events.bad_rows import find_bad_rows
from ...data.events.check_events import check_events
from ...data.events.event_files import EventFiles
from ...data.schema.column_needs import needed_columns
from ...data.storage.file_systems import Location
from ...data.storage.mirror import mirrored, shown
from ...model.layers.precision import has_bf16
from ..fine_tuning.domain_profiles import domain_profiles
from ..fine_tuning.pretrained import Pretrained, held_id_types, pretrained
from ..logs.progress import Progress
from ..logs.records import info, warning
from ..run.kept_checkpoints import best_of_members, member_folder
from ..run.new_run import check_new_or_same, check_same_beside, check_same_events, create_run, keep_format
from ..run.run_folder import EXPERIMENT, VOCABULARY, fetch_run
from .kept_counts import keep_counts, kept_counts

Events = dict[str, dict[str, EventFiles]]
"""Domain -> split -> files."""


@dataclass(frozen=True)
class TrainingJob:
    """What ranks train: resolved and checked before they begin.

    Attributes:
        experiment: the experiment.
        run: the run folder, which is there, or its URI.
        events: domain -> split -> files.
        profiled: whether a Chrome trace of a few steps is written for each rank.
        member: which of the experiment's ``seeds`` models is trained, from 0.
        began: when its preparation began, in seconds since 1970.
        seconds: how long that took.
    """

    experiment: Experiment
    run: Location
    events: Events
    profiled: bool = False
    member: int = 0
    began: float = 0.0
    seconds: float = 0.0

    @property
    def folder(self) -> Path:
        """Where this machine has the run folder."""
        return mirrored(self.run, "work")

    @property
    def member_folder(self) -> Path:
        """Where in it the model's checkpoints and records are."""
        return member_folder(self.folder, self.member)

    def of_member(self, member: int) -> "TrainingJob":
        """The job of one of its models, with a seed of its own; what came before the first one's steps counts as that one's."""
        if not member:
            return self
        experiment = self.experiment.model_copy(update={"seed": self.experiment.seed + member})
        return replace(self, experiment=experiment, member=member, began=time.time(), seconds=0.0)


def prepare(experiment: Experiment, run: Location, profiled: bool = False, counts: Path | None = None) -> TrainingJob:
    """Checks the events, counts them and makes the run folder; in one process. A run being resumed is not counted again.

    Args:
        experiment: the experiment.
        run: the run folder, or its URI.
        profiled: as of `TrainingJob`.
        counts: folder of what trainings of the same data have counted, as of `counted`.

    Raises:
        UserError: bad data, more of it than `bad_data` allows, or a run folder that holds something else.
    """
    began = time.time()
    experiment, events = _prepared(experiment, mirrored(run, "work"), counts)
    return TrainingJob(experiment, run, events, profiled, began=began, seconds=time.time() - began)


def _prepared(experiment: Experiment, run: Path, counts: Path | None) -> tuple[Experiment, Events]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_optimizer(experiment.training, device.type)
    events = check_events(experiment, held=held_id_types(run, experiment))
    train = {name: of_domain["train"] for name, of_domain in events.items()}
    experiment = sized(experiment, train, run)
    if (same := check_new_or_same(run, experiment)) is not None:
        check_same_events(run, train)
        check_same_beside(run, experiment)
        keep_format(run)
        return same, {name: events[name] for name in same.domains}
    before = pretrained(experiment) if experiment.init_from is not None else None
    statistics, noted = counted(experiment, train, before, counts)
    if experiment.bad_data.skips:  # of the training events they have just been counted
        for name, of_domain in events.items():
            if "validation" in of_domain:
                needs = needed_columns(experiment, name)
                find_bad_rows(name, of_domain["validation"], needs, experiment.bad_data)
    base = best_of_members(before.run) if before is not None else ()
    create_run(run, experiment, statistics, train, base, noted)
    if experiment.training.precision == "bf16" and not has_bf16(device):
        warning(
            "training.precision: bf16 is many times slower than fp32 on this CPU, which has no instructions for it; try auto"
        )
    for name, of_domain in events.items():
        for split, files in of_domain.items():
            tell_set_aside(f"{name}, {split}", files)
    if rows := sum(statistics.skipped.rows.values()):
        warning(f"skipped {rows:,} bad rows of {sum(statistics.rows.values()):,}: {shown(run / VOCABULARY / SKIPPED)}")
    return experiment, events


def counted(
    experiment: Experiment, train: Mapping[str, EventFiles], before: Pretrained | None, counts: Path | None
) -> tuple[Statistics, dict[str, Any]]:
    """What a training must know of its events, kept by another one of the same data or newly counted.

    Args:
        experiment: the experiment.
        train: domain -> its training files.
        before: the run that a fine-tuning begins with.
        counts: folder in which it is looked for, and into which it comes; None to count and keep nothing.

    Returns:
        The statistics, and what is known of the files, as of `create_run`.

    Raises:
        UserError: bad data, a catalog or a content store that is bad.
    """
    found, noted = kept_counts(counts, experiment, train)
    rows = sum(files.rows for files in train.values())
    statistics = found
    if statistics is None:
        with Progress("counting the training events", "rows", rows, "counting") as done:
            statistics = count(experiment, train, done.add)
    check_labels(experiment, statistics, before.experiment if before is not None else None)
    alone = statistics
    if before is not None:
        statistics = before.statistics.extended(statistics)
    encoder = RowEncoder(experiment, statistics)  # finds bad catalogs and content stores before there is a run
    statistics = replace(statistics, profiles=domain_profiles(encoder, train))
    if statistics.rate_columns and (before is not None or statistics.rates is None):
        with Progress("adding up rates", "rows", rows, "counting") as done:
            statistics = replace(statistics, rates=count_rates(encoder, train, _moments(before), done.add))
    if found is None and counts is not None:
        keep_counts(counts, experiment, alone if before is not None else statistics, noted)
    return statistics, noted


def _moments(before: Pretrained | None) -> dict[str, tuple[float, float]]:
    """Of the rates of a run to fine-tune."""
    return before.statistics.rates.moments if before is not None and before.statistics.rates is not None else {}


def sized(experiment: Experiment, train: Mapping[str, EventFiles], run: Path) -> Experiment:
    """The experiment with what it leaves to the size of the data; of a run that is there, with what was decided then."""
    if experiment.training.says_batch_size:
        return experiment
    fetch_run(run)
    if (run / EXPERIMENT).is_file():
        before = load_experiment(run / EXPERIMENT, kinds=kinds_of(experiment))
        return with_batch_size(experiment, before.training.batch_size)
    rows = sum(files.rows for files in train.values())
    decided = by_size(experiment, rows)
    if decided.training.batch_size != experiment.training.batch_size:
        info(f"training.batch_size: {decided.training.batch_size}, for {rows:,} rows of training")
    return decided


def check_labels(experiment: Experiment, statistics: Statistics, before: Experiment | None = None) -> None:
    """Tells of domains that have no label of a task, and refuses a task that has none in any domain.

    Args:
        experiment: the experiment.
        statistics: of its training events.
        before: of the run that a fine-tuning begins with; what it has learnt of a task needs no labels here.

    Raises:
        UserError: nobody can learn a task, as its labels in training are all null, or in bad rows, or null wherever the task that
            it is given has happened.
    """
    known = {task for domain in before.domains.values() for task in domain.tasks} if before is not None else set()
    labelled = {task for tasks in statistics.labels.values() for task, (labels, _) in tasks.items() if labels}
    for name, tasks in statistics.labels.items():
        for task, (labels, total) in tasks.items():
            label = experiment.domains[name].tasks[task].label
            column = label.column
            weighed = experiment.domains[name].weight_of(task) is not None
            if not labels and task not in labelled and (task not in known or not labelled):
                raise UserError(
                    f"domains.{name}.tasks.{task}",
                    f"has no label to learn from: column '{column}' holds none in the training events of any domain"
                    + (", or none of a weight above 0" if weighed else ""),
                    f"Write {experiment.domains[name].tasks[task].takes} where the outcome is known, or remove the task.",
                )
            clicked, outcomes = statistics.outcomes.get(name, {}).get(task, (0, 0))
            if outcomes < clicked:
                _tell_unknown_outcomes(experiment, name, task, clicked, outcomes)
            if not labels:
                warning(f"domains.{name}.tasks.{task}: column '{column}' holds no label in the training events")
            elif label.is_condition and total in (0, labels):
                often = "every label of the training events is" if total else "no label of the training events is"
                warning(f"domains.{name}.tasks.{task}.label: {often} 1; look at the condition on '{column}'")


def _tell_unknown_outcomes(experiment: Experiment, domain: str, task: str, before: int, known: int) -> None:
    """Of a task that is given another: rows without the other's event are 0, so those with it must not be without an outcome."""
    where, of = f"domains.{domain}.tasks.{task}", experiment.domains[domain].tasks[task]
    remedy = "Leave out the days whose outcomes are not known yet, with all of their rows, or write 0 where it did not happen."
    column = f"column '{of.label.column}'"
    if not known:
        raise UserError(where, f"{column} has no label in any of the {before:,} rows with {of.parent}", remedy)
    warning(
        f"{where}: {column} has no label in {before - known:,} of {before:,} rows with {of.parent}, which count nowhere while rows "
        f"without {of.parent} count as 0: scores come out too low, by {1 - known / before:.1%} if these are like the others. {remedy}"
    )


def tell_set_aside(where: str, files: EventFiles) -> None:
    """Says which files are left out, and why."""
    for _, why in files.set_aside:
        warning(f"{where}: left out {why}")


def check_optimizer(training: TrainingConfig, device: str) -> None:
    """Refuses a sparse optimizer that FBGEMM cannot fuse on a kind of device, ``cpu`` or ``cuda``.

    Raises:
        UserError: Adam without a GPU.
    """
    if training.sparse_optimizer == "adam" and device == "cpu":
        raise UserError(
            "training.sparse_optimizer",
            "'adam' runs on GPUs only, and there is none",
            "Use rowwise_adagrad or sgd here.",
        )
