"""What a scoring job reads, and which part of it goes to which file: checked before any work starts."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...data.arrow.column_need import ColumnNeed
from ...data.arrow.column_types import NAME
from ...data.catalogs.catalog_files import known_id_types
from ...data.config.experiment import Experiment
from ...data.config.sections.bad_data import BadDataConfig
from ...data.errors import UserError
from ...data.events.event_files import EventFiles, check_columns, list_events, open_parquet
from ...data.schema.skipped_values import check_share
from ...data.storage import storage
from ...data.storage.file_identity import identities, same_content
from ...data.storage.file_systems import Location, is_uri
from ...data.storage.globs import parquet_below, would_name
from ...data.storage.json_documents import parse_document
from ...data.storage.new_folder import check_can_be_made
from ..logs.progress import Progress
from ..ranks.runtime import Runtime
from ..run.checkpoint_folder import best, identity
from ..run.joined import joined
from ..run.run_documents import JobOf
from ..run.run_folder import id_types_of, open_experiment
from .kept_columns import common_types
from .scoring_input import DOMAIN, ScoringJob, check_job, check_names, domains_named, input_needs, passed_on_columns

SUCCESS = "_SUCCESS"
_JOB = "_job.json"
_BAD_ROWS = b"foundrank.bad_rows"


@dataclass(frozen=True)
class Part:
    """One row group of the input, and the file its scores go to.

    Attributes:
        file: of the input.
        group: its position in that file.
        rows: in it.
        out: where the scores go.
        types: those of passed on columns that have several types in the input's files: what they have in all parts.
    """

    file: str
    group: int
    rows: int
    out: str
    types: Mapping[str, pa.DataType] = field(default_factory=dict)


def plan_parts(job: ScoringJob, claims: bool) -> tuple[list[Part], EventFiles]:
    """Checks the input and the output folder, which is made where the job ``claims`` it, and names the parts.

    Returns:
        The parts, and the files they are of.

    Raises:
        UserError: no run, an unknown domain or column, no input, input that lacks a column, or an output folder that
            cannot be made or holds something else.
    """
    experiment = open_experiment(job.folder)
    checkpoint = best(job.folder)
    check_job(job, experiment)
    files = list_events(parquet_below(job.source), "the input to score", job.policy)
    check_names(job, experiment, files.files[0], open_parquet(files.files[0]).schema_arrow.names)
    if job.domain is None:
        files = check_columns(files, [ColumnNeed(DOMAIN, NAME, "a job without --domain")], job.policy)
    named = job.like or ([job.domain] if job.domain else domains_named(files, experiment.domains, job.policy))
    types = known_id_types(experiment, id_types_of(job.folder))
    files = check_columns(files, input_needs(job, experiment, named), job.policy, types)
    passed_on = passed_on_columns(job, experiment)
    claimed = {
        "checkpoint": identity(checkpoint),
        "domain": job.domain,
        "keep": list(job.keep),
        "like": list(job.like),
    }
    return planned_parts(job.source, job.out, claimed, files, experiment, common_types(files, passed_on), claims), files


def planned_parts(
    source: str,
    out: Location,
    job: dict[str, Any],
    files: EventFiles,
    experiment: Experiment,
    types: Mapping[str, pa.DataType],
    claims: bool,
) -> list[Part]:
    """The parts of a job, whose output folder is free or this job's already.

    Args:
        source: of the input.
        out: the folder.
        job: what else it depends on.
        files: the input's.
        experiment: the run's, whose catalogs and text vectors are joined to the input.
        types: of columns that are passed on, as of `Part`.
        claims: whether the folder is made this job's now.

    Raises:
        UserError: the folder cannot be made, holds something else, or what is written there would be read as input.
    """
    out = storage.resolved(str(out), Path.cwd())
    if would_name(parquet_below(source), storage.join(out, "part-00000-00000.parquet")):
        raise UserError(
            out, f"is part of the input '{source}', which the output would then be too", "Choose a folder elsewhere."
        )
    held = _held(out)
    noted = {name: held.get(name, []) for name in ("input", "catalogs_and_texts")}
    read = {
        "input": identities(files.files, noted["input"]),
        "catalogs_and_texts": joined(experiment, noted["catalogs_and_texts"]),
    }
    changed = [name for name in job if held.get(name) != job[name]]
    changed += [name for name in read if not same_content(noted[name], read[name])]
    if changed and any(name == SUCCESS or name.startswith("part-") for name in storage.names(out)):
        what = f"holds the scores of another job ({', '.join(changed)} differ)"
        raise UserError(out, what, "Give an empty folder, or delete that one.")
    if claims:
        _claim(out, job | read)
    elif not is_uri(out):
        check_can_be_made(Path(out), out, "Choose a folder you can write to.")
    return [
        Part(file, g, rows, storage.join(out, f"part-{f:05d}-{g:05d}.parquet"), types)
        for f, (file, groups) in enumerate(zip(files.files, files.group_rows, strict=True))
        for g, rows in enumerate(groups)
    ]


def unfinished(parts: Sequence[Part], out: Location) -> list[Part]:
    """Those that are not there yet; a job that has any is no success."""
    there = storage.names(out)
    todo = [part for part in parts if PurePosixPath(part.out).name not in there]
    if todo:
        storage.remove(storage.join(out, SUCCESS))
    return todo


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


def write_part(part: Part, table: pa.Table, bad_rows: int) -> None:
    """Writes the scores of a part, whole or not at all, with the number of its bad rows in the file's metadata."""
    if bad_rows:
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _BAD_ROWS: str(bad_rows)})
    for name, kind in part.types.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    content = pa.BufferOutputStream()
    # Scores hardly repeat: without a dictionary of them a part is smaller, and written in half the time.
    nested = any(pa.types.is_nested(kind) for kind in table.schema.types)  # whose columns have other names in a file
    repeating = [column.name for column in table.schema if not pa.types.is_floating(column.type)]
    pq.write_table(table, content, compression="zstd", use_dictionary=nested or repeating)
    storage.write(part.out, content.getvalue())


def succeed(source: str, out: Location, policy: BadDataConfig, parts: Sequence[Part]) -> int:
    """Writes ``_SUCCESS``; the number of bad rows in all parts.

    Raises:
        UserError: there are more of them than the policy allows.
    """
    bad = 0
    if policy.skips:
        bad = sum(_bad_rows(part) for part in parts)
        check_share(bad, sum(part.rows for part in parts), policy, source)
    storage.write(storage.join(out, SUCCESS), b"")
    return bad


def _bad_rows(part: Part) -> int:
    return int((storage.parquet_file(part.out).schema_arrow.metadata or {}).get(_BAD_ROWS, 0))


def _held(out: str) -> dict[str, Any]:
    """The job whose folder it is; empty where it is nobody's."""
    written = storage.read(storage.join(out, _JOB))
    if written is None and storage.names(out):
        raise UserError(out, "is not empty and holds no scoring job", "Give an empty folder, or delete that one.")
    remedy = "Give an empty folder, or delete that one."
    return parse_document(written, storage.join(out, _JOB), JobOf, remedy) if written is not None else {}


def _claim(out: str, job: dict[str, Any]) -> None:
    """Makes the output folder this job's: parts of another job must not be mistaken for its own."""
    try:
        storage.write(storage.join(out, _JOB), json.dumps(job, indent=1).encode())
    except OSError as error:
        raise UserError(out, f"cannot be written ({error.strerror})", "Choose a folder you can write to.") from error
    for stray in storage.names(out):
        if stray.startswith(".") and ".tmp-" in stray:
            storage.remove(storage.join(out, stray))
