"""Counting as a job of its own, for the trainings that come after it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from ...data.config.experiment import Experiment
from ...data.counting.by_size import by_size
from ...data.counting.count_tables import CountTables, find_tables
from ...data.counting.read_tables import check_rows
from ...data.counting.statistics import Statistics
from ...data.errors import UserError
from ...data.events.check_events import check_events
from ...data.events.event_files import EventFiles
from ...data.storage import storage
from ..fine_tuning.pretrained import pretrained
from ..ranks.runtime import Runtime, patiently
from ..run.run_folder import COUNTING
from .counted import counted
from .kept_counts import check_counts


@dataclass(frozen=True)
class CountingJob:
    """What ranks count: resolved and checked before they begin.

    Attributes:
        experiment: the experiment.
        train: domain -> its training files.
        folder: for what is counted, as trainings take it with ``--counts``.
        tables: what was counted elsewhere, in place of counting ids and numbers here.
    """

    experiment: Experiment
    train: dict[str, EventFiles]
    folder: Path
    tables: CountTables | None = None

    @property
    def rows(self) -> int:
        """Of training, all domains together."""
        return sum(files.rows for files in self.train.values())


def prepare_counting(experiment: Experiment, folder: Path, tables: str | None = None) -> CountingJob:
    """Checks the training events.

    Args:
        experiment: the experiment.
        folder: as of `CountingJob`.
        tables: path or URI of the folder with what was counted elsewhere.

    Raises:
        UserError: bad data, a folder that cannot be made or written, or tables that are not the experiment's.
    """
    check_counts(folder)
    before = pretrained(experiment).statistics.id_types if experiment.init_from is not None else {}
    events = check_events(experiment, ["train"], held=before)
    train = {name: of_domain["train"] for name, of_domain in events.items()}
    rows = sum(files.rows for files in train.values())
    found = None if tables is None else find_tables(experiment, train, storage.resolved(tables, Path.cwd()))
    if found is not None:
        check_rows(train, found)
    return CountingJob(by_size(experiment, rows), train, folder, found)


def count_for_others(job: CountingJob, runtime: Runtime) -> Statistics:
    """Counts a job's events, or finds that another job has, and keeps what it has counted in the job's folder. A collective.

    Raises:
        UserError: as of `counted`; rows were left out as bad, of which each training tells anew.
    """
    before = pretrained(job.experiment) if job.experiment.init_from is not None else None
    with patiently(runtime) as ranks:
        statistics, _ = counted(job.experiment, job.train, before, job.folder, ranks, job.folder / COUNTING, job.tables)
        ranks.barrier()  # so that what is counted is kept
    shutil.rmtree(job.folder / COUNTING, ignore_errors=True)
    if skipped := sum(statistics.skipped.rows.values()):
        raise UserError(
            "the training events",
            f"have {skipped:,} bad rows, which were left out; what is counted without them is not kept for others",
            "Mend these rows, or leave counting to `foundrank train`, which tells which they are.",
        )
    return statistics
