"""``foundrank compare``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...data.storage.local_writes import write_text
from ..console import console
from ..logs import prometheus
from ..logs.records import result
from ..logs.settings import is_json
from ..quick_imports import quick_imports
from ..ranks.job import on_ranks
from ..ranks.statuses import DONE
from .commands.job_command import begin, end, passed_without_folder
from .commands.options import (
    LOCAL,
    AlikeBy,
    Check,
    Diversity,
    DiversityWeight,
    Negatives,
    OneDomain,
    Pool,
    Processes,
    Repeat,
    Seed,
    Slices,
    Width,
    names,
)

# Imported where it is used, for start-up time: --help and mistakes are answered before torch and TorchRec are there.
if TYPE_CHECKING:
    from ..compare.arms import Comparison
    from ..ranks.runtime import Runtime


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN ... | NAME=RUN,RUN NAME=RUN,RUN ...",
            help="run folders, each compared with the first; or arms of several runs that differ in their seed",
        ),
    ],
    split: Annotated[str, typer.Option(help="train, validation or test")] = "test",
    draws: Annotated[int, typer.Option(min=100, help="bootstrap draws of users and seeds")] = 1000,
    seed: Seed = 0,
    repeat: Repeat = None,
    negatives: Negatives = 0,
    domain: OneDomain = None,
    width: Width = None,
    diversity: Diversity = None,
    diversity_weight: DiversityWeight = None,
    pool: Pool = None,
    alike_by: AlikeBy = None,
    slices: Slices = "",
    out: Annotated[Path | None, typer.Option(help="JSON file for every number", **LOCAL)] = None,
    report: Annotated[Path | None, typer.Option(help="HTML file for every number", **LOCAL)] = None,
    check: Check = False,
    processes: Processes = None,
) -> None:
    """Compare runs on the same rows: differences with 95 % intervals over users and seeds, per domain, task and slice.

    Runs without predictions of the split are evaluated first and keep them, as after `foundrank evaluate RUN --predictions`.
    """
    begin(__name__, "compare.compare", check, processes)

    def resolve() -> "tuple[Comparison, Path | None, Path | None]":
        prometheus.label(command="compare")
        with quick_imports():
            from ..compare.arms import prepare_comparison
            from ..retrieval.protocol import PLACES, Protocol
            from ..retrieval.slate import slate_of

        slate = slate_of(diversity, diversity_weight, pool, PLACES, alike_by)
        protocol = Protocol(repeat, negatives, domain, width, slate, alike_by)
        return prepare_comparison(runs, split, draws, seed, protocol, names(slices), writes=not check), out, report

    if check:
        with quick_imports():
            from ..capacity.preflight import check_evaluation, ranks_asked

        job, _, _ = resolve()
        told = [f"{len(job.runs)} runs, {len(job.todo)} of them to be evaluated first"]
        fits = [line for each in job.todo for line in check_evaluation(each, ranks_asked(None, processes))]
        return passed_without_folder([*told, *fits])
    end(on_ranks(resolve, _compare, processes))


def _compare(planned: "tuple[Comparison, Path | None, Path | None]", runtime: "Runtime") -> int:
    with quick_imports():
        from ..compare.compare import compare as work

    job, out, report = planned
    found = work(job, runtime)
    if runtime.is_main:
        from ..compare.pages import print_comparison, sentences, write_page

        if out is not None:
            write_text(out, json.dumps(found, indent=1))
        if report is not None:
            write_page(found, report)
        if is_json():
            for row in found["rows"]:
                where = f"{row['arm']}, {row['domain']}, {row['task']}, {row['slice']}, {row['metric']}"
                result(where, "difference", difference=row)
            for sentence in sentences(found):
                result(sentence, "compared")
        else:
            print_comparison(found, console())
        for written in (out, report):
            if written is not None:
                result(f"wrote {written}", "written", file=str(written))
    return DONE
