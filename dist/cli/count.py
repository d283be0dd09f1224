"""``foundrank count``."""

import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..lease.lease import Claim
from ..logs import prometheus
from ..logs.records import hint, result
from ..quick_imports import quick_imports
from ..ranks.job import on_ranks
from ..ranks.statuses import DONE
from .commands.job_command import begin, end, passed
from .commands.options import LOCAL, LOCATION, Check, ExperimentPath, Overrides, Processes, loaded

# Imported where it is used, for start-up time: --help and mistakes are answered before torch and TorchRec are there.
if TYPE_CHECKING:
    from ..counting.job import CountingJob
    from ..ranks.runtime import Runtime


def count(
    experiment: ExperimentPath,
    counts: Annotated[Path, typer.Argument(help="folder for what is counted; run again to go on", **LOCAL)],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="folder of Parquet tables that Spark or DuckDB has counted, in place of counting ids and numbers here",
            **LOCATION,
        ),
    ] = None,
    set_: Overrides = None,
    check: Check = False,
    processes: Processes = None,
) -> None:
    """Count the training events on all ranks, for the trainings that are given the folder with --counts.

    What is counted is of one experiment and its files; other rates, widths, gates and heads take the same. With --from, ids and
    numbers are taken from tables that were counted elsewhere (docs/reference/counts.md); labels, lists and rates are counted here.
    """
    begin(__name__, "counting.job", check, processes)

    @cache
    def resolve() -> "CountingJob":
        prometheus.label(command="count")
        with quick_imports():
            from ..counting.job import prepare_counting

        return prepare_counting(loaded(experiment, set_), counts, from_)

    claim, given = Claim(counts, "count"), "".join(f" --set {shlex.quote(setting)}" for setting in set_ or ())
    next_ = f"foundrank train {experiment} --counts {counts}{given}"
    if check:
        return passed([f"{len(resolve().train)} domain(s), {resolve().rows:,} training rows"], claim)
    end(on_ranks(lambda: (resolve(), next_), _count, processes, holds=lambda: claim))


def _count(asked: "tuple[CountingJob, str]", runtime: "Runtime") -> int:
    with quick_imports():
        from ..counting.job import count_for_others
        from ..counting.kept_counts import tables_in

    job, next_ = asked
    statistics = count_for_others(job, runtime)
    if runtime.is_main:
        rows = sum(table.rows for table in statistics.tables.values())
        said = f"{job.rows:,} training rows; {len(statistics.tables)} tables with {rows:,} rows: {job.folder}"
        result(said, "counted", rows=job.rows, tables={name: table.rows for name, table in statistics.tables.items()})
        if (tables := tables_in(job.folder, job.experiment)).is_dir():  # older versions have kept none
            hint(f"all counts, as Parquet tables: {tables}")
        hint(f"next: {next_}")
    return DONE
