"""``foundrank score``."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ....data.storage.mirror import mirrored
from ...lease.lease import Claim
from ...logs import prometheus
from ...logs.records import result, warning
from ...quick_imports import quick_imports
from ...ranks.job import on_ranks
from .job_command import begin, end, passed
from .options import (
    LOCATION,
    Against,
    Check,
    Cluster,
    MaxMeanShift,
    MaxNullShare,
    Overwrite,
    Processes,
    RunPath,
    names,
)
from .thresholds import tell_thresholds

# Imported where it is used, for start-up time: --help and mistakes are answered before torch and TorchRec are there.
if TYPE_CHECKING:
    from ...ranks.runtime import Runtime
    from ...score.scoring_input import ScoringJob
    from ...score.work_list import WorkList


def score(
    run: RunPath,
    source: Annotated[str, typer.Argument(help="Parquet file, folder or glob to score", **LOCATION)],
    out: Annotated[
        str, typer.Argument(help="folder for the scores; run again to finish an interrupted job", **LOCATION)
    ],
    domain: Annotated[
        str | None, typer.Option(help="domain of all rows  [default: the input's column `domain`]")
    ] = None,
    keep: Annotated[str, typer.Option(help="further input columns to pass through, comma-separated")] = "",
    like: Annotated[
        str,
        typer.Option(
            help="for a --domain the run has never seen: the domains whose scores are averaged, comma-separated"
        ),
    ] = "",
    bad_data: Annotated[
        Literal["fail", "skip"] | None,
        typer.Option(help="what to do about bad rows  [default: the run's bad_data.policy]"),
    ] = None,
    overwrite: Overwrite = False,
    partition_by: Annotated[
        str, typer.Option(help="columns whose values become folders, comma-separated, e.g. day,domain")
    ] = "",
    against: Against = None,
    max_null_share: MaxNullShare = None,
    max_mean_shift: MaxMeanShift = None,
    check: Check = False,
    cluster: Cluster = None,
    processes: Processes = None,
) -> None:
    """Score Parquet files with a run's best checkpoint: each task, or where a run has none, the row's item as the user's next one."""
    begin(__name__, "score.score", check, processes)

    def resolve() -> "tuple[ScoringJob, WorkList]":
        prometheus.label(command="score", run=str(run))  # what is wrong has them, too
        with quick_imports():
            from ...promote.promote import current_run
            from ...run.run_folder import open_experiment
            from ...score.scoring_input import ScoringJob
            from ...score.work_list import plan_parts
            from ...score.writing import Thresholds, Writing
            from ...train.prepare import tell_set_aside

        found = current_run(run)
        policy = open_experiment(mirrored(found, "read")).bad_data
        policy = policy.model_copy(update={"policy": bad_data or policy.policy})
        limits = Thresholds(max_null_share, max_mean_shift)
        writing = Writing(overwrite, tuple(names(partition_by)), against, limits)
        job = ScoringJob(found, source, out, domain, names(keep), policy, names(like), writing)
        work = plan_parts(job, claims=not check)
        tell_set_aside("score", work.aside)
        return job, work

    claim = Claim(out, "score")
    if check:
        with quick_imports():
            from ...capacity.preflight import check_scoring, ranks_asked
            from ...score.scoring_input import columns_read

        job, work = resolve()
        told = check_scoring(job.folder, work, partial(columns_read, job), ranks_asked(cluster, processes))
        return passed([f"{len(work.parts):,} part(s) to score into {out}", *told], claim)
    end(on_ranks(resolve, _score, processes, holds=lambda: claim))


def _score(planned: "tuple[ScoringJob, WorkList]", runtime: "Runtime") -> int:
    with quick_imports():
        from ...retrieval.protocol import NEXT_ITEM
        from ...score.score import score as work

    job, parts = planned
    summary = work(job, parts, runtime)
    if runtime.is_main:
        rows, rate, why = summary["rows"], summary["rows_per_s"], summary["why"]
        bad, overflowed = why["bad_rows"] + why["unreadable_rows"], why["no_number"]
        said = f"scored {rows:,} rows into {job.out}" + (f", {rate:,.0f} rows/s" if rate else ", all of them before")
        result(said, "scored", rows=rows, rows_per_s=rate, bad_rows=bad, overflowed=overflowed, out=str(job.out))
        if job.like:
            means = "scores" if NEXT_ITEM in summary["scores"] else "logits"  # products have no logits
            result(f"zero-shot: the run has not seen '{job.domain}'; these are mean {means} over {', '.join(job.like)}")
        if bad:
            warning(f"{bad:,} of them were bad: they have no score")
        if unknown := why["unknown_item"]:
            warning(f"{unknown:,} of them have no item, or one of which nothing is known: they have no score")
        if overflowed:
            warning(f"{overflowed:,} of them hold values so large that no number comes out: they have no score")
    return tell_thresholds(summary, job.writing.thresholds, runtime.is_main)
