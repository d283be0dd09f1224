"""What all commands whose work ranks do begin and end with."""

import typer

from ...logs.records import result
from ...ranks.environment import check_launcher
from ...ranks.launch import preload, store_file


def begin(command: str, module: str, check: bool, processes: int | None) -> None:
    check_launcher(own_store=store_file() is not None)
    if not check:
        preload(["foundrank.dist.cli.before_ranks", command, f"foundrank.dist.{module}"], processes)


def passed(told: list[str]) -> None:
    for line in [*told, "checks passed"]:
        result(line, "checked")


def end(status: int) -> None:
    if status:
        raise typer.Exit(status)
