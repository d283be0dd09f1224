"""``foundrank tune``."""

from pathlib import Path
from typing import Annotated

import typer

from ...data.storage.mirror import shown
from ..logs.records import hint, result
from ..quick_imports import quick_imports
from ..ranks.statuses import DONE
from .commands.job_command import end
from .commands.options import LOCAL, ExperimentPath, Overrides, Seed


def tune(
    experiment: ExperimentPath,
    out: Annotated[
        Path, typer.Argument(help="folder of the trials; run again, or on other hosts too, it goes on", **LOCAL)
    ],
    trials: Annotated[int, typer.Option(min=1, help="how many, with those that are there")] = 40,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="trainings at a time on this machine  [default: one per GPU, else 1]")
    ] = None,
    processes: Annotated[int, typer.Option("--processes", "-p", min=1, help="ranks of each training")] = 1,
    space: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of what is tried  [default: rates, sizes, dropout and epochs by the rows]", **LOCAL
        ),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            help="slice, task or domain to judge by, e.g. cold_items, or liked/cold_items  [default: all of validation]"
        ),
    ] = "",
    keep: Annotated[int, typer.Option(min=0, help="best trials whose checkpoints stay")] = 3,
    seed: Seed = 2026,
    set_: Overrides = None,
) -> None:
    """Find better settings of an experiment: trainings chosen by Optuna, those that fall behind given up early; never reads the test split."""
    with quick_imports():
        from ...model.kinds import KINDS  # brings torch, without which the command line answers --help
        from ..tune.outcome import BEST, PAGE
        from ..tune.prepare import prepare_tuning
        from ..tune.training import gpus
        from ..tune.trials import Trials
        from ..tune.tune import run_tuning
    job = prepare_tuning(experiment, set_ or [], out, space, objective, KINDS, seed, processes)
    known = Trials(job, seed, trials)
    status = run_tuning(job, known, parallel or max(1, len(gpus()) // processes), keep)
    if status == DONE and (best := known.best()) is not None:
        told = f"wrote {shown(out / BEST)}: {best.value:.5f} on validation, trial {best.number}; report: {shown(out / PAGE)}"
        result(told, "tuned", best=str(out / BEST), value=best.value, trial=best.number, report=str(out / PAGE))
        if (others := known.at_work()) > 0:
            result(f"{others} trial(s) are still at work elsewhere, or were left: run the same command again")
        hint(f"next: foundrank train {out / BEST}")
    end(status)
