"""``foundrank train``."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ....data.errors import UserError
from ....data.storage.mirror import mirrored, shown
from ...lease.lease import Claim
from ...logs import prometheus
from ...logs.records import hint, result
from ...quick_imports import quick_imports
from ...ranks.environment import launched, number, of_machine
from ...ranks.job import count_of, on_ranks
from ...ranks.statuses import DONE, TRY_AGAIN
from .job_command import begin, end, passed
from .options import LOCAL, LOCATION, Check, Cluster, ExperimentPath, Overrides, Processes, loaded

# Imported where it is used, for start-up time: --help and mistakes are answered before torch and TorchRec are there.
if TYPE_CHECKING:
    from ....data.config.experiment import Experiment
    from ...capacity.network_check import NetworkCheck
    from ...ranks.runtime import Runtime
    from ...train.prepare import TrainingJob


def train(
    experiment: ExperimentPath,
    run: Annotated[
        str | None,
        typer.Option("--run-dir", help="run folder; an interrupted run resumes  [default: runs/NAME]", **LOCATION),
    ] = None,
    set_: Overrides = None,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="write a Chrome trace of a few steps, trace.rankR.json, into the run folder"),
    ] = False,
    counts: Annotated[
        Path | None,
        typer.Option(help="folder to keep what is counted of the data in, for other trainings of the same", **LOCAL),
    ] = None,
    check: Check = False,
    cluster: Cluster = None,
    network: Annotated[
        bool, typer.Option("--network", help="with --check: measure the network between the ranks of the job as well")
    ] = False,
    processes: Processes = None,
) -> None:
    """Train on one or more processes into a run folder."""
    if network and not check:
        raise UserError("--network", "is a part of --check, which is not given", "Add --check, or leave it out.")
    begin(__name__, "train.train", check and not network, processes)
    if network:
        return end(_measured_network(lambda: loaded(experiment, set_), run, cluster, processes))
    if check:
        from ...capacity.preflight import check_training, ranks_asked

        checked = loaded(experiment, set_)
        ranks = ranks_asked(cluster, processes)
        claim = Claim(run or _usual(checked), "train")
        found = check_training(checked, mirrored(claim.folder, "work"), ranks)
        return passed(found.told, claim)

    @cache
    def wanted() -> "Experiment":
        return loaded(experiment, set_)

    def resolve() -> "TrainingJob":
        prometheus.label(command="train")  # what is wrong has them, too
        with quick_imports():
            from ...train.prepare import prepare  # TorchRec, which a mistake in the file need not wait for

        return prepare(wanted(), run or _usual(wanted()), profile, counts)

    end(on_ranks(resolve, _train, processes, holds=lambda: Claim(run or _usual(wanted()), "train")))


def _usual(experiment: "Experiment") -> str:
    return str(Path("runs") / experiment.name)


def _measured_network(
    wanted: "Callable[[], Experiment]", run: str | None, cluster: str | None, processes: int | None
) -> int:
    """Checks on rank 0 what ``--check`` does, and has all ranks measure what is between them."""
    with quick_imports():
        from ...capacity.network_check import NetworkCheck, check_several
        from ...capacity.preflight import check_training, ranks_here

    here = of_machine()[1] if launched() else count_of(processes)
    in_all = number("WORLD_SIZE", 1) if launched() else here
    check_several(in_all, cluster)

    def resolve() -> "NetworkCheck":
        ranks, experiment = ranks_here(here, in_all - here), wanted()
        claim = Claim(run or _usual(experiment), "train")
        return NetworkCheck(check_training(experiment, mirrored(claim.folder, "work"), ranks), ranks, claim)

    return on_ranks(resolve, _measure_network, processes)


def _measure_network(job: "NetworkCheck", runtime: "Runtime") -> int:
    with quick_imports():
        from ...capacity.network import measure
        from ...capacity.network_check import tell_network

    found = measure(runtime)
    if runtime.is_main:
        tell_network(found, job)
        passed(job.checked.told, job.claim)
    runtime.barrier()
    return DONE


def _train(job: "TrainingJob", runtime: "Runtime") -> int:
    with quick_imports():
        from ...ranks.preemption import Preemption
        from ...train.train import train as work

    with Preemption(runtime) as preemption:
        stopped_after = work(job, runtime, preemption)
        if runtime.is_main and stopped_after is not None:
            said = f"stopped after step {stopped_after}, as requested; run the same command again to resume"
            result(said, "stopped", step=stopped_after, status=TRY_AGAIN)
        elif runtime.is_main:
            from ...report.report import (
                write_report,  # matplotlib comes with it, which the first step need not wait for
            )

            report = shown(write_report(job.folder))
            result(f"wrote {job.run}; report: {report}", "trained", run=str(job.run), report=report)
            hint(f"next: foundrank evaluate {job.run}")
    return DONE if stopped_after is None else TRY_AGAIN
