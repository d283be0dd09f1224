"""``foundrank recommend``."""

from typing import TYPE_CHECKING, Annotated

import typer

from ...lease.lease import Claim
from ...logs import prometheus
from ...logs.records import result, warning
from ...quick_imports import quick_imports
from ...ranks.job import on_ranks
from .job_command import begin, end, passed
from .options import (
    LOCATION,
    Against,
    AlikeBy,
    Check,
    Cluster,
    Diversity,
    DiversityWeight,
    MaxMeanShift,
    MaxNullShare,
    OneDomain,
    Overwrite,
    Pool,
    Processes,
    Repeat,
    RunPath,
    Width,
)
from .thresholds import tell_thresholds

# Imported where it is used, for start-up time: --help and mistakes are answered before torch and TorchRec are there.
if TYPE_CHECKING:
    from ....data.config.experiment import Experiment
    from ...ranks.runtime import Runtime
    from ...score.recommend_input import RecommendJob
    from ...score.work_list import WorkList


def recommend(
    run: RunPath,
    users: Annotated[
        str, typer.Argument(help="Parquet file, folder or glob with the users' ids and histories", **LOCATION)
    ],
    out: Annotated[
        str, typer.Argument(help="folder for the recommendations; run again to finish an interrupted job", **LOCATION)
    ],
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="items per user")] = 100,
    repeat: Repeat = None,
    domain: OneDomain = None,
    width: Width = None,
    items: Annotated[
        str | None,
        typer.Option(
            help="Parquet file, folder or glob with the ids of the items to choose from  [default: all]", **LOCATION
        ),
    ] = None,
    approximate: Annotated[bool, typer.Option("--approximate", help="search with FAISS, if it is installed")] = False,
    diversity: Diversity = None,
    diversity_weight: DiversityWeight = None,
    pool: Pool = None,
    alike_by: AlikeBy = None,
    preference: Annotated[
        str | None,
        typer.Option(
            help="what all these users prefer, in words, in place of what their column has; for a run with a content of the user in model.history.prefix"
        ),
    ] = None,
    overwrite: Overwrite = False,
    against: Against = None,
    max_null_share: MaxNullShare = None,
    max_mean_shift: MaxMeanShift = None,
    check: Check = False,
    cluster: Cluster = None,
    processes: Processes = None,
) -> None:
    """Recommend the best items of the whole catalog to each user, with a run trained on model.next_item."""
    begin(__name__, "score.recommend", check, processes)

    def resolve() -> "tuple[RecommendJob, WorkList]":
        prometheus.label(command="recommend", run=str(run))  # what is wrong has them, too
        with quick_imports():
            from ...promote.promote import current_run
            from ...retrieval.slate import slate_of
            from ...score.recommend_input import RecommendJob, plan_recommendations
            from ...score.writing import Thresholds, Writing

        writing = Writing(overwrite, (), against, Thresholds(max_null_share, max_mean_shift))
        slate = slate_of(diversity, diversity_weight, pool, k, alike_by)
        asked = (k, repeat, approximate, domain, items, width, slate, alike_by, preference)
        job = RecommendJob(current_run(run), users, out, *asked, writing=writing)
        return job, plan_recommendations(job, claims=not check)

    claim = Claim(out, "recommend")
    if check:
        with quick_imports():
            from ...capacity.preflight import check_scoring, ranks_asked
            from ...score.recommend_input import user_needs

        def columns(experiment: "Experiment") -> list[str]:
            return [need.name for need in user_needs(experiment, domain)]

        job, work = resolve()
        told = check_scoring(job.folder, work, columns, ranks_asked(cluster, processes))
        return passed([f"{work.rows:,} users to recommend to, into {out}", *told], claim)
    end(on_ranks(resolve, _recommend, processes, holds=lambda: claim))


def _recommend(planned: "tuple[RecommendJob, WorkList]", runtime: "Runtime") -> int:
    with quick_imports():
        from ...score.recommend import recommend as work

    job, parts = planned
    summary, recall, users_overflowed, items_overflowed = work(job, parts, runtime)
    if runtime.is_main:
        found = "" if recall is None else f"; of an exact search's items, {recall:.1%} were found in a sample"
        said = f"wrote the best {job.k} items of {summary['rows']:,} users into {job.out}{found}"
        result(said, "recommended", users=summary["rows"], k=job.k, recall=recall, out=str(job.out))
        if users_overflowed or items_overflowed:
            warning(
                f"of {users_overflowed:,} users and {items_overflowed:,} items no number came out, as values are too large: these have no place"
            )
    return tell_thresholds(summary, job.writing.thresholds, runtime.is_main)
