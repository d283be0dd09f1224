"""What all commands whose work ranks do begin and end with."""

import typer

from ...lease.lease import Claim, holder_of
from ...logs.records import result
from ...ranks.environment import check_launcher
from ...ranks.launch import preload, store_file


def begin(command: str, module: str, check: bool, processes: int | None) -> None:
    check_launcher(own_store=store_file() is not None)
    if not check:
        preload(["foundrank.dist.cli.before_ranks", command, f"foundrank.dist.{module}"], processes)


def passed(told: list[str], claim: Claim) -> None:
    if (holder := holder_of(claim)) is not None:
        told = [*told, f"at work there now: {holder.told()}; until it has ended this job would leave at once"]
    for line in [*told, "checks passed"]:
        result(line, "checked")


def end(status: int) -> None:
    if status:
        raise typer.Exit(status)
