"""What a scoring job is given: the job, and what its input must have."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ...data.arrow.column_need import ColumnNeed
from ...data.arrow.column_types import ANYTHING
from ...data.config.experiment import Experiment
from ...data.config.sections.bad_data import BadDataConfig
from ...data.errors import UserError, nearest
from ...data.events.event_files import EventFiles, Unreadable, read_group
from ...data.schema.column_needs import needed_columns
from ...data.storage.file_systems import Location
from ...data.storage.mirror import mirrored
from ..retrieval.protocol import NEXT_ITEM
from .hive_columns import HiveColumns
from .kept_columns import check_names_apart
from .writing import Writing

DOMAIN = "domain"

ROWS_AT_A_TIME = 16384
"""Scored together; half of them where each has a sequence of past items."""


@dataclass(frozen=True)
class ScoringJob:
    """What is to be scored.

    Attributes:
        run: the run folder whose best checkpoint scores, or its URI.
        source: a Parquet file, a folder of them, or a glob; or a URI of such.
        out: folder of the scores, or its URI.
        domain: the domain of all rows; None if the input has a column ``domain``.
        keep: further input columns to pass through.
        policy: for bad data.
        like: domains of the run whose predictions are averaged where the run does not know ``domain``.
        writing: how the result is written.
    """

    run: Location
    source: str
    out: Location
    domain: str | None = None
    keep: Sequence[str] = ()
    policy: BadDataConfig = field(default_factory=BadDataConfig)
    like: Sequence[str] = ()
    writing: Writing = field(default_factory=Writing)

    @property
    def folder(self) -> Path:
        """Where this machine has the run folder."""
        return mirrored(self.run, "read")

    @property
    def kept(self) -> tuple[str, ...]:
        """``keep``, and what else folders are named after."""
        return tuple(dict.fromkeys([*self.keep, *(name for name in self.writing.partition_by if name != DOMAIN)]))


def check_job(job: ScoringJob, experiment: Experiment) -> None:
    """Makes sure that a job is for a domain that the run knows, or for one that is like some of its own.

    Raises:
        UserError: a domain is unknown.
    """
    for name in job.like:
        if name not in experiment.domains:
            raise UserError("--like", f"'{name}' is not a domain of this run", nearest(name, experiment.domains))
    if job.like and (job.domain is None or job.domain in experiment.domains):
        known = (
            "says nothing of a domain"
            if job.domain is None
            else f"says what '{job.domain}' is like, which the run knows"
        )
        raise UserError("--like", known, "Name a new domain with --domain, or leave out --like.")
    if job.domain is not None and job.domain not in experiment.domains and not job.like:
        raise UserError(
            "--domain",
            f"'{job.domain}' is not a domain of this run",
            f"{nearest(job.domain, experiment.domains)} A new one is scored as the mean of others with --like DOMAIN,DOMAIN.",
        )


def check_names(job: ScoringJob, experiment: Experiment, where: str, names: Sequence[str]) -> None:
    """Makes sure that an input with columns of these names says each row's domain, and has what is passed on.

    Raises:
        UserError: one is missing, or has the name of a column that is written.
    """
    if job.domain is None and DOMAIN not in names:
        raise UserError(
            where,
            "has no column 'domain'",
            f"Add one, or say --domain with one of: {', '.join(experiment.domains)}.",
        )
    for name in job.kept:
        if name not in names:
            option = "--keep" if name in job.keep else "--partition-by"
            raise UserError(option, f"'{name}' is not a column of {where}", nearest(name, names))
    tasks = {task for domain in experiment.domains.values() for task in domain.tasks} or {NEXT_ITEM}
    own = {DOMAIN, *(f"score_{task}" for task in tasks)}
    # Without --domain the column of that name is the same here and there.
    check_names_apart(passed_on_columns(job, experiment), sorted(own - ({DOMAIN} if job.domain is None else set())))


def input_needs(job: ScoringJob, experiment: Experiment, named: Collection[str]) -> list[ColumnNeed]:
    """What an input whose rows are of the domains ``named`` must have, and what is passed on."""
    needs = [
        # Rows of a domain that is like others may lack what is those domains' own.
        replace(need, optional=bool(job.like) and need.field.startswith("domains."))
        for name in experiment.domains
        if name in named
        for need in needed_columns(experiment, name, with_labels=False)
    ]
    ids = [(entity.id, f"entities.{name}.id") for name, entity in experiment.entities.present().items()]
    needs += [ColumnNeed(column, ANYTHING, field, optional=True) for column, field in ids]  # passed on
    needs += [ColumnNeed(column, ANYTHING, "--keep") for column in job.kept]
    return list(dict.fromkeys(needs))


def columns_read(job: ScoringJob, experiment: Experiment) -> list[str]:
    """Columns of the input that are looked at, or passed on."""
    asked = job.like or ([job.domain] if job.domain else list(experiment.domains))
    return list(dict.fromkeys(need.name for need in input_needs(job, experiment, asked)))


def passed_on_columns(job: ScoringJob, experiment: Experiment) -> dict[str, str]:
    """Columns that the output has too -> what asks for them."""
    ids = {entity.id: f"entities.{name}.id" for name, entity in experiment.entities.present().items()}
    kept = {name: "--keep" if name in job.keep else "--partition-by" for name in job.kept if name not in ids}
    return ids | kept


def domains_named(files: EventFiles, hive: HiveColumns, domains: Iterable[str], policy: BadDataConfig) -> set[str]:
    """Which domains the input's ``domain`` column names, or the folders it is in.

    Raises:
        UserError: a row's is none of the run's.
    """
    named: set[str] = set()
    known = pa.array(list(domains), pa.string())
    for file, group in files.row_groups:
        try:
            of_all = hive.of_file.get(file, {}).get(DOMAIN)
            values = pa.array([of_all]) if of_all else read_group(file, group, [DOMAIN])[DOMAIN].cast(pa.string())
        except Unreadable:
            if policy.skips:
                continue  # counted when it is its turn
            raise
        at = pc.index_in(values, known)
        if at.null_count:
            row = pc.index(pc.is_null(at), True).as_py()
            what = f"'{values[row].as_py()}' is not a domain of this run"
            where = f"{file}: row group {group}, row {row}"
            raise UserError(where, what, nearest(str(values[row].as_py()), known.to_pylist()))
        named |= {known[number].as_py() for number in pc.unique(at).to_pylist()}
    return named
