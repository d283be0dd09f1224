"""Commands in processes of their own that begin with their libraries imported: forked from one that has done it once."""

import gc
import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = [
    f"foundrank.dist.{module}"
    for module in (
    "cli.main", "cli.app", "train.train", "evaluate.evaluate", "score.score", "score.recommend", "capacity.describe",
    "capacity.preflight", "capacity.plan", "report.report", "ranks.preemption", "embed.embed",
    )
]  # fmt: skip
"""What the process that commands and ranks of tests are forked from has imported."""


def start_warm(arguments: tuple[str, ...], out: Path, errors: Path, folder: Path) -> BaseProcess:
    """Starts ``foundrank ARGUMENTS`` in ``folder``, from its entry point to its end.

    Args:
        arguments: words of the command line.
        out: file for what it prints.
        errors: file for what it says on standard error; may be the same.
        folder: the working folder.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_command, args=(arguments, out, errors, folder, dict(os.environ)))
    process.start()
    return process


def run_warm(arguments: tuple[str, ...], out: Path, errors: Path, folder: Path, timeout: float) -> int | None:
    """`start_warm`, and its end: the status; None if it had to be killed after ``timeout`` seconds."""
    process = start_warm(arguments, out, errors, folder)
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def _command(arguments: tuple[str, ...], out: Path, errors: Path, folder: Path, environment: dict[str, str]) -> None:
    gc.freeze()  # what is imported stays
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for path, descriptor in ((out, 1), (errors, 2)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), descriptor)
    sys.argv = ["foundrank", *arguments]
    from foundrank.dist.cli.main import main

    main()
