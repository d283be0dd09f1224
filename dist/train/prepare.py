"""What a training does before its first step: it finds mistakes, counts the events and makes the run folder.

Imports little, so that the process that launches the ranks need not wait for TorchRec.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...data.config.experiment import Experiment
from ...data.config.kinds import kinds_of
from ...data.config.load import load_experiment
from ...data.counting.by_size import by_size, with_batch_size
from ...data.counting.statistics import SKIPPED, Statistics
from ...data.errors import UserError
from ...data.events.bad_rows import find_bad_rows
from ...data.events.check_events import check_events
from ...data.events.event_files import EventFiles
from ...data.schema.column_needs import needed_columns
from ...data.storage.file_systems import Location
from ...data.storage.mirror import mirrored, shown
from ...model.layers.precision import has_bf16
from ..counting.counted import counted
from ..counting.kept_counts import check_counts
from ..fine_tuning.pretrained import held_id_types, pretrained
from ..logs.records import info, warning
from ..ranks.runtime import ALONE, Runtime, patiently
from ..run.kept_checkpoints import best_of_members, member_folder
from ..run.new_run import check_new_or_same, check_same_beside, check_same_events, create_run, keep_format
from ..run.run_folder import COUNTING, EXPERIMENT, VOCABULARY, fetch_run
from .delta_versions import with_versions

COUNTED_ALONE = 2_000_000
"""Rows of training that are counted before there are ranks, while these are still being started; more are counted by all ranks."""

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
        counts: folder of what trainings of the same data have counted, as of `counted`.
        is_counted: whether the events are counted and the run folder is made; else `begin_run` has ranks do so.
        is_increment: as of `counted`.
        began: when its preparation began, in seconds since 1970.
        seconds: how long that took.
    """

    experiment: Experiment
    run: Location
    events: Events
    profiled: bool = False
    member: int = 0
    counts: Path | None = None
    is_counted: bool = True
    is_increment: bool = False
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


def prepare(
    experiment: Experiment,
    run: Location,
    profiled: bool = False,
    counts: Path | None = None,
    is_increment: bool = False,
) -> TrainingJob:
    """Checks the events; of few rows it counts them, too, and makes the run folder. In one process. A run being resumed is not
    counted again.

    Args:
        experiment: the experiment.
        run: the run folder, or its URI.
        profiled: as of `TrainingJob`.
        counts: folder of what trainings of the same data have counted, as of `counted`.
        is_increment: as of `counted`.

    Raises:
        UserError: bad data, more of it than `bad_data` allows, or a run folder that holds something else.
    """
    began, folder = time.time(), mirrored(run, "work")
    if not is_increment and all(domain.events.train is None for domain in experiment.domains.values()):
        raise UserError("domains", "have no training events, none of them", "Name those of one as events.train.")
    if counts is not None:
        check_counts(counts)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_optimizer(experiment, device.type)
    experiment = with_versions(experiment, folder)
    events = check_events(experiment, held=held_id_types(folder, experiment))
    train = {name: of_domain["train"] for name, of_domain in events.items()}
    experiment = sized(experiment, train, folder)
    if (same := check_new_or_same(folder, experiment)) is not None:
        check_same_events(folder, train)
        check_same_beside(folder, experiment)
        keep_format(folder)
        events = {name: events[name] for name in same.domains}
        return TrainingJob(same, run, events, profiled, began=began, seconds=time.time() - began)
    if experiment.training.precision == "bf16" and not has_bf16(device):
        warning(
            "training.precision: bf16 is many times slower than fp32 on this CPU, which has no instructions for it; try auto"
        )
    job = TrainingJob(experiment, run, events, profiled, 0, counts, False, is_increment, began)
    if sum(files.rows for files in train.values()) <= COUNTED_ALONE:
        job = begin_run(job, ALONE)
    return replace(job, seconds=time.time() - began)


def begin_run(job: TrainingJob, runtime: Runtime) -> TrainingJob:
    """Counts a job's events and makes its run folder, where that is not done. A collective.

    Raises:
        UserError: as of `counted`; the folder cannot be made.
    """
    if job.is_counted:
        return job
    experiment, events, counting = job.experiment, job.events, time.time()
    train = {name: of_domain["train"] for name, of_domain in events.items()}
    before = pretrained(experiment) if experiment.init_from is not None else None
    pieces = None if runtime is ALONE else job.folder / COUNTING

    def make(statistics: Statistics, noted: Mapping[str, Any]) -> None:
        if experiment.bad_data.skips:  # of the training events they have just been counted
            for name, of_domain in events.items():
                if "validation" in of_domain:
                    needs = needed_columns(experiment, name)
                    find_bad_rows(name, of_domain["validation"], needs, experiment.bad_data)
        base = best_of_members(before.run) if before is not None else ()
        create_run(job.folder, experiment, statistics, train, base, noted)
        for name, of_domain in events.items():
            for split, files in of_domain.items():
                tell_set_aside(f"{name}, {split}", files)
        if rows := sum(statistics.skipped.rows.values()):
            places = shown(job.folder / VOCABULARY / SKIPPED)
            warning(f"skipped {rows:,} bad rows of {sum(statistics.rows.values()):,}: {places}")

    with patiently(runtime) as ranks:
        found = counted(experiment, train, before, job.counts, ranks, pieces, is_increment=job.is_increment)
        ranks.on_main(lambda: make(*found))
        if pieces is not None:
            shutil.rmtree(pieces, ignore_errors=True)
    return replace(job, is_counted=True, seconds=job.seconds + time.time() - counting)


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


def tell_set_aside(where: str, files: EventFiles) -> None:
    """Says which files are left out, and why."""
    for _, why in files.set_aside:
        warning(f"{where}: left out {why}")


def check_optimizer(experiment: Experiment, device: str) -> None:
    """Refuses what the tables' optimizer cannot do on a kind of device, ``cpu`` or ``cuda``.

    Raises:
        UserError: Adam without a GPU; float16 tables that the kernels for CPUs cannot train.
    """
    training = experiment.training
    if training.sparse_optimizer == "adam" and device == "cpu":
        raise UserError(
            "training.sparse_optimizer",
            "'adam' runs on GPUs only, and there is none",
            "Use rowwise_adagrad or sgd here.",
        )
    if training.half_tables and device == "cpu":
        from ..sharding.cpu_tables import check_rounding  # FBGEMM comes with it, which other trainings start without

        check_rounding(experiment)
