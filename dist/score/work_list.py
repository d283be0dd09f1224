"""What a scoring job reads, and which part of it goes to which file: checked before any work starts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from ...data.arrow.column_need import ColumnNeed
from ...data.arrow.column_types import NAME
from ...data.catalogs.catalog_files import known_id_types
from ...data.config.experiment import Experiment
from ...data.errors import UserError
from ...data.events.event_files import EventFiles, check_columns, list_events
from ...data.schema.column_needs import IdTypes
from ...data.schema.layout import id_key
from ...data.storage import storage
from ...data.storage.file_identity import fingerprint, identities
from ...data.storage.file_systems import Location
from ...data.storage.globs import parquet_below, would_name
from ..logs.progress import Progress
from ..ranks.runtime import Runtime
from ..run.joined import joined
from ..run.kept_checkpoints import best_of_members, identity
from ..run.run_folder import id_types_of, open_experiment
from .hive_columns import HiveColumns, check_partitions, hive_columns
from .kept_columns import common_types
from .output_folder import INPUT, TEXTS, check_place, claim, noted, part_prefix, place_of, swap
from .scoring_input import DOMAIN, ScoringJob, check_job, check_names, domains_named, input_needs, passed_on_columns
from .summary import Previous, previous_summary
from .writing import Writing

_FORMAT = 2  # of an output folder; those of the first have no numbers for a summary


class Asked(Protocol):
    """What jobs are asked for, whatever they write."""

    @property
    def source(self) -> str:
        """A Parquet file, a folder of them, or a glob; or a URI of such."""
        ...

    @property
    def out(self) -> Location:
        """Folder of the result, or its URI."""
        ...

    @property
    def writing(self) -> Writing:
        """How it is written."""
        ...


@dataclass(frozen=True)
class Part:
    """One row group of the input, and the file its scores go to.

    Attributes:
        file: of the input.
        group: its position in that file.
        rows: in it.
        name: of the file of scores.
        hive: columns that are in the names of the file's folders, and their values.
    """

    file: str
    group: int
    rows: int
    name: str
    hive: Mapping[str, pa.Scalar]


@dataclass(frozen=True)
class WorkList:
    """All parts of a job, and where they are written.

    Attributes:
        parts: in the order of their numbers.
        out: the folder of the result.
        folder: the one that is written into: ``out``, or another beside a result that stays until this one is whole.
        types: columns of the input that are passed on -> the type that they have in all parts.
        writing: how the result is written.
        checkpoint: which one scores, as of `identity`.
        files: of the input, how many.
        fingerprint: of all that they hold.
        previous: the summary that this one's means are compared with, if there is any.
        aside: files of the input that cannot be used, with what is wrong with each.
    """

    parts: list[Part]
    out: str
    folder: str
    types: dict[str, pa.DataType]
    writing: Writing
    checkpoint: str
    files: int
    fingerprint: str
    previous: Previous | None
    aside: EventFiles

    @property
    def rows(self) -> int:
        """Rows of the input."""
        return sum(part.rows for part in self.parts)


def plan_parts(job: ScoringJob, claims: bool) -> WorkList:
    """Checks the input and the output folder, which is made where the job ``claims`` it, and names the parts.

    Raises:
        UserError: no run, an unknown domain or column, no input, input that lacks a column, or an output folder that
            cannot be made or holds something else.
    """
    experiment = open_experiment(job.folder)
    checkpoints = best_of_members(job.folder)
    check_job(job, experiment)
    files = list_events(parquet_below(job.source), "the input to score", job.policy)
    types = known_id_types(experiment, id_types_of(job.folder))
    hive = hive_columns(files.files, _strings(experiment, types))
    check_names(job, experiment, files.files[0], hive.schema(files.files[0]).names)
    if job.domain is None:
        needs = [ColumnNeed(DOMAIN, NAME, "a job without --domain")]
        files = check_columns(files, needs, job.policy, schema=hive.schema)
    named = job.like or ([job.domain] if job.domain else domains_named(files, hive, experiment.domains, job.policy))
    files = check_columns(files, input_needs(job, experiment, named), job.policy, types, hive.schema)
    claimed = {
        "checkpoint": identity(checkpoints),
        "domain": job.domain,
        "keep": list(job.keep),
        "like": list(job.like),
    }
    passed_on = {name: field for name, field in passed_on_columns(job, experiment).items() if name != DOMAIN}
    return planned_parts(job, claimed, files, hive, experiment, passed_on, {DOMAIN: pa.string()}, claims)


def _strings(experiment: Experiment, types: IdTypes) -> set[str]:
    """Columns whose values are strings, whatever they look like."""
    entities = experiment.entities.present()
    ids = {entity.id for name, entity in entities.items() if types.get(id_key(name), ("", ""))[0] == "string"}
    return ids | {DOMAIN}


def planned_parts(
    asked: Asked,
    depends: dict[str, Any],
    files: EventFiles,
    hive: HiveColumns,
    experiment: Experiment,
    passed_on: Mapping[str, str],
    own: Mapping[str, pa.DataType],
    claims: bool,
) -> WorkList:
    """The work of a job, whose output folder is free or this job's already.

    Args:
        asked: the job.
        depends: what else its result depends on, the identity of its checkpoint among it.
        files: the input's.
        hive: columns in the names of their folders.
        experiment: the run's, whose catalogs and content stores are joined to the input.
        passed_on: names of the input's columns that the output has -> what asks for them.
        own: columns that the job writes and that a folder may be named after.
        claims: whether the folder is made this job's now.

    Raises:
        UserError: the folder cannot be made, holds something else, or what is written there would be read as input.
    """
    out, writing = storage.resolved(str(asked.out), Path.cwd()), asked.writing
    if would_name(parquet_below(asked.source), storage.join(out, "part-00000-00000.parquet")):
        raise UserError(
            out,
            f"is part of the input '{asked.source}', which the output would then be too",
            "Choose a folder elsewhere.",
        )
    check_place(out)
    if claims:
        swap(out)  # which an earlier job may have begun
    held = noted(out)
    read = identities(files.files, held.get(INPUT, []))
    texts = joined(experiment, held.get(TEXTS, []))
    depends = depends | {"partition_by": list(writing.partition_by), "format": _FORMAT}
    place = place_of(out, depends, read, texts, writing.overwrite)
    number = {position: at for at, position in enumerate(place.at) if position is not None}
    late = [position for position in range(len(read)) if position not in number]
    number |= {position: len(place.known) + at for at, position in enumerate(late)}
    known = [file for position, file in enumerate(files.files) if number[position] < len(place.known)]
    added = [files.files[position] for position in late]
    types = common_types(known or added, added if known else [], hive, passed_on)
    check_partitions(writing.partition_by, (types | dict(own)).get)
    previous = previous_summary(out, writing.against, place)
    if claims:
        columns = {name: str(kind) for name, kind in types.items()}
        noted_input = [*place.known, *(read[position] for position in late)]
        claim(out, place, depends | {"columns": columns, INPUT: noted_input, TEXTS: texts})
    parts = [
        Part(file, g, rows, f"{part_prefix(number[f])}{g:05d}.parquet", hive.of_file.get(file, {}))
        for f, (file, groups) in enumerate(zip(files.files, files.group_rows, strict=True))
        for g, rows in enumerate(groups)
    ]
    return WorkList(
        sorted(parts, key=lambda part: part.name),
        out,
        place.folder,
        types,
        writing,
        depends["checkpoint"],
        len(files.files),
        fingerprint(read),
        previous,
        files,
    )


def in_turns(
    todo: Sequence[Part],
    runtime: Runtime,
    alone: bool,
    do: Callable[[Part], None],
    idle: Callable[[int, int], None],
    progress: Progress,
) -> None:
    """Does all parts, each rank one at a time.

    Args:
        todo: the parts, the same on every rank.
        runtime: the process group.
        alone: whether a rank looks rows up without the others; if not, those with fewer rows keep the others company.
        do: does a part.
        idle: given the most rows that a rank now has and how many this one has had, looks nothing up in the meantime.
        progress: counts the rows; ``do`` may add those of this rank's part as it goes.
    """
    before = 0
    for turn in range(0, len(todo), runtime.world_size):
        together = todo[turn : turn + runtime.world_size]
        rows = 0
        if runtime.rank < len(together):
            rows = together[runtime.rank].rows
            do(together[runtime.rank])
        if not alone:
            idle(max(part.rows for part in together), rows)
        before += sum(part.rows for part in together)
        progress.done = before
    runtime.barrier()
