"""``foundrank evaluate``."""

from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from ....data.storage.file_systems import Location
from ....data.storage.mirror import shown
from ...console import console
from ...lease.lease import BESIDE_TRAINING, Claim
from ...logs import prometheus
from ...logs.records import result as tell_result
from ...logs.records import warning
from ...logs.settings import is_json
from ...quick_imports import quick_imports
from ...ranks.job import on_ranks
from ...ranks.statuses import DONE, THRESHOLD
from .job_command import begin, end, passed
from .options import (
    AlikeBy,
    Check,
    Cluster,
    Diversity,
    DiversityWeight,
    Negatives,
    OneDomain,
    Pool,
    Processes,
    Repeat,
    RunPath,
    Slices,
    Width,
    names,
)

# Imported where it is used, for start-up time: --help and mistakes are answered before torch and TorchRec are there.
if TYPE_CHECKING:
    from ...evaluate.gate import Gate
    from ...evaluate.prepare import EvaluationJob
    from ...ranks.runtime import Runtime


def evaluate(
    run: RunPath,
    split: Annotated[str, typer.Option(help="train, validation or test")] = "test",
    fail_below: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[DOMAIN.]TASK.METRIC=VALUE",
            help="leave with status 3 where a metric is below this, e.g. click.auc=0.70; repeatable",
        ),
    ] = None,
    predictions: Annotated[
        bool, typer.Option("--predictions", help="keep what it says of each row, in RUN/predictions/SPLIT.parquet")
    ] = False,
    repeat: Repeat = None,
    negatives: Negatives = 0,
    domain: OneDomain = None,
    width: Width = None,
    diversity: Diversity = None,
    diversity_weight: DiversityWeight = None,
    pool: Pool = None,
    alike_by: AlikeBy = None,
    slices: Slices = "",
    check: Check = False,
    cluster: Cluster = None,
    processes: Processes = None,
) -> None:
    """Measure a run per domain, task and slice, and write its report."""
    begin(__name__, "evaluate.evaluate", check, processes)

    @cache  # a promotion meanwhile changes nothing
    def current() -> Location:
        with quick_imports():
            from ...promote.promote import current_run

        return current_run(run)

    def resolve() -> "tuple[EvaluationJob, tuple[Gate, ...]]":
        prometheus.label(command="evaluate", run=str(run))  # what is wrong has them, too
        with quick_imports():
            from ...evaluate.gate import read_gates
            from ...evaluate.prepare import prepare_evaluation
            from ...retrieval.protocol import PLACES, Protocol
            from ...retrieval.slate import slate_of

        slate = slate_of(diversity, diversity_weight, pool, PLACES)
        protocol = Protocol(repeat, negatives, domain, width, slate, alike_by)
        job = prepare_evaluation(
            current(), split, writes=not check, keeps=predictions, protocol=protocol, slices=names(slices)
        )
        return job, read_gates(fail_below or [], job.experiment, split)

    def claim() -> Claim:
        return Claim(current(), "evaluate", BESIDE_TRAINING)

    if check:
        with quick_imports():
            from ...capacity.preflight import check_evaluation, ranks_asked

        return passed(check_evaluation(resolve()[0], ranks_asked(cluster, processes)), claim())
    end(on_ranks(resolve, _evaluate, processes, holds=claim))


def _evaluate(planned: "tuple[EvaluationJob, tuple[Gate, ...]]", runtime: "Runtime") -> int:
    with quick_imports():
        from ...evaluate.evaluate import evaluate_run
        from ...evaluate.gate import fallen_short

    job, gates = planned
    result = evaluate_run(job, runtime)
    short = runtime.on_main(lambda: fallen_short(gates, result))
    if runtime.is_main:
        from ...evaluate.measures import measured_by
        from ...report.report import write_report
        from ...report.terminal_tables import print_evaluation, print_lists, print_next_item, print_slices

        if is_json():
            for row in [*result["rows"], *result.get("next_item", [])]:
                tell_result(f"{row['domain']}, {row.get('task', 'next item')}, {row['slice']}", "metrics", metrics=row)
        else:
            print_evaluation(result["rows"], measured_by(result), console())
            print_slices(
                result["rows"],
                measured_by(result),
                [name for of in result["slices"].values() for name in of],
                console(),
            )
            if result.get("next_item"):
                print_next_item(result["next_item"], console(), result["protocol"])
                print_lists(result["next_item"], console())
        if result["skipped"]:
            warning(f"{result['skipped']:,} bad rows are in no metric")
        measured = [*result["rows"], *result.get("next_item", [])]
        if overflowed := sum(row["overflowed"] for row in measured if row["slice"] == "all"):
            warning(f"{overflowed:,} predictions came out as no number, of values too large: they are in no metric")
        report = shown(write_report(job.folder))
        tell_result(f"report: {report}", "evaluated", run=str(job.run), split=job.split, report=report)
        for told in short:
            warning(told, "threshold")
    return THRESHOLD if short else DONE
