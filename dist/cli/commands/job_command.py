"""What all commands whose work ranks do begin and end with."""

import os

import typer

from ...lease.lease import Claim, holder_of
from ...logs.records import result
from ...ranks.cores import set_threads
from ...ranks.ending import end_on_signals
from ...ranks.environment import check_launcher
from ...ranks.launch import preload, store_file
from ...ranks.temporary_folder import remove_private_folder
from ...slurm.step import MEETING, become_rank, step_here


def begin(command: str, module: str, check: bool, processes: int | None) -> None:
    step = step_here(processes)
    if step is not None and not check:
        remove_private_folder()  # of a command alone; TMPDIR is the step's again, where its tasks meet
        become_rank(step)
        end_on_signals()  # as ranks do
        set_threads(step.local_ranks)
    check_launcher(own_store=store_file() is not None or MEETING in os.environ)
    if not check:
        preload(["foundrank.dist.cli.before_ranks", command, f"foundrank.dist.{module}"], processes)


def passed(told: list[str], claim: Claim) -> None:
    if (holder := holder_of(claim)) is not None:
        told = [*told, f"at work there now: {holder.told()}; until it has ended this job would leave at once"]
    passed_without_folder(told)


def passed_without_folder(told: list[str]) -> None:
    for line in [*told, "checks passed"]:
        result(line, "checked")


def end(status: int) -> None:
    if status:
        raise typer.Exit(status)
