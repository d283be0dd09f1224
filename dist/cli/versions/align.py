"""``foundrank align``."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ....data.storage.mirror import shown
from ...lease.lease import Claim
from ...logs import prometheus
from ...logs.records import hint, result
from ...quick_imports import quick_imports
from ...ranks.job import on_ranks
from ...ranks.statuses import DONE, TRY_AGAIN
from ..commands.job_command import begin, end, passed
from ..commands.options import LOCATION, Check, Overrides, Processes, RunPath

# Imported where it is used, for start-up time: --help and mistakes are answered before torch and TorchRec are there.
if TYPE_CHECKING:
    from ...align.request import AlignJob
    from ...ranks.runtime import Runtime


def align(
    run: RunPath,
    out: Annotated[
        str, typer.Argument(help="folder of the aligned run; run again to finish an interrupted job", **LOCATION)
    ],
    reward: Annotated[
        str,
        typer.Option(
            help="what says how good a candidate is: a run folder, hits (the row's own next item), a Parquet file of users, items and rewards, or noise",
            **LOCATION,
        ),
    ],
    weights: Annotated[
        str, typer.Option(help="weights of the tasks of a --reward run, e.g. click=1,buy=3  [default: 1 each]")
    ] = "",
    candidates: Annotated[int, typer.Option("--candidates", "-k", min=2, help="candidates per user")] = 16,
    pool: Annotated[
        int, typer.Option(min=2, help="drawn from so many of the best; as many as --candidates: these, not drawn")
    ] = 100,
    temperature: Annotated[float, typer.Option(min=0.01, help="what scores are divided by before drawing")] = 1.0,
    split: Annotated[str, typer.Option(help="what is measured before and after: validation or test")] = "test",
    set_: Overrides = None,
    check: Check = False,
    processes: Processes = None,
) -> None:
    """Preference alignment: fine-tune a run that finds items to prefer those of its candidates that a reward says are better."""
    begin(__name__, "align.align", check, processes)

    @cache
    def resolve() -> "AlignJob":
        prometheus.label(command="align", run=str(out))  # what is wrong has them, too
        with quick_imports():
            from ...align.prepare import prepare_alignment
            from ...align.request import Grouping
            from ...align.reward_spec import reward_spec
            from ...promote.promote import current_run

        grouping = Grouping(candidates, pool, temperature)
        return prepare_alignment(current_run(run), out, reward_spec(reward, weights), grouping, split, set_ or [])

    claim = Claim(out, "align")
    if check:
        with quick_imports():
            from ...capacity.preflight import check_alignment, ranks_asked

        return passed(check_alignment(resolve(), ranks_asked(None, processes)), claim)
    end(on_ranks(resolve, _align, processes, holds=lambda: claim))


def _align(job: "AlignJob", runtime: "Runtime") -> int:
    with quick_imports():
        from ...align.align import align as work
        from ...align.measured import change_told
        from ...report.report import write_report

    done = work(job, runtime)
    if runtime.is_main and isinstance(done, int):
        said = f"stopped after step {done}, as requested; run the same command again to resume"
        result(said, "stopped", step=done, status=TRY_AGAIN)
    elif runtime.is_main and not isinstance(done, int):
        for row in done["measures"]:
            if row["rows"]:
                means = f"{row['before']:.4f} -> {row['after']:.4f}"
                said = f"{row['domain']}, {row['measure']}: {means}, {change_told(row)}"
                result(said, "measured", **row)
        report = shown(write_report(Path(job.out)))
        result(f"wrote {job.out}; report: {report}", "aligned", run=str(job.out), report=report)
        hint(f"next: foundrank evaluate {job.out}")
    runtime.barrier()
    return TRY_AGAIN if isinstance(done, int) else DONE
