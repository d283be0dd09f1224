"""What every command that works for a while takes: how it is to tell of it, and whether somebody steps through it."""

import inspect
import os
import signal
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ....data import debugging
from ....data.errors import UserError
from ...logs import settings
from .options import LOCAL

PLAIN = "FOUNDRANK_PLAIN"  # of model.layers.fast, which brings torch


def _asked(
    log_format: Annotated[
        Literal["text", "json"] | None,
        typer.Option(help="text, or a JSON object a line  [default: text, or what FOUNDRANK_LOG_FORMAT says]"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="tell only warnings, errors and the result")] = False,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="no bar and no lines of progress")] = False,
    metrics_file: Annotated[
        Path | None, typer.Option(help="file of numbers for Prometheus, e.g. /var/lib/node_exporter/job.prom", **LOCAL)
    ] = None,
) -> None:
    """Takes what was asked for into the environment, from where the ranks have it too."""
    given = {
        settings.FORMAT: log_format,
        settings.QUIET: "1" if quiet else None,
        settings.NO_PROGRESS: "1" if no_progress else None,
        settings.METRICS_FILE: str(metrics_file.absolute()) if metrics_file is not None else None,
    }
    os.environ.update({name: value for name, value in given.items() if value is not None})
    settings.check_settings()


def _debugged(
    processes: int | None,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            help="for stepping through: one process, plain kernels, anomaly detection, no threads of readers, no progress, "
            "nothing that ends what stands still",
        ),
    ] = False,
) -> int | None:
    """Makes ready for a debugger; how many ranks there are then."""
    if not debug:
        return processes
    if processes not in (None, 1):
        raise UserError(
            f"--debug -p {processes}",
            "asks for ranks in processes of their own, where no terminal reaches them",
            "Leave -p out, or start ranks with torchrun: `torchrun --nproc-per-node 2 -m foundrank ... --debug`.",
        )
    os.environ.update({debugging.SWITCH: "1", PLAIN: "all"})
    # What anomaly detection tells comes from torch, whose warnings are left out otherwise.
    warnings.filterwarnings("always", message="Error detected in", category=UserWarning)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a debugger's prompt takes it for its own
    return 1


def telling(command: Callable[..., None]) -> Callable[..., None]:
    """The command with options that say how it is to tell of its work."""

    def begin(given: dict[str, Any], **asked: Any) -> None:
        _asked(**asked)

    return _with(command, _asked, begin)


def debuggable(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which takes a number of processes, with ``--debug``."""

    def begin(given: dict[str, Any], **asked: Any) -> None:
        given["processes"] = _debugged(given["processes"], **asked)

    return _with(command, _debugged, begin)


def _with(command: Callable[..., None], options: Callable[..., Any], begin: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of a function besides its own; ``begin`` is given its own arguments and those."""
    own, more = inspect.signature(command), inspect.signature(options).parameters
    more = {name: parameter for name, parameter in more.items() if name not in own.parameters}

    @wraps(command)
    def with_options(**given: Any) -> None:
        asked = {name: given.pop(name) for name in more}
        begin(given, **asked)
        command(**given)

    with_options.__signature__ = own.replace(parameters=[*own.parameters.values(), *more.values()])  # type: ignore[attr-defined]
    with_options.__annotations__ = options.__annotations__ | command.__annotations__
    return with_options
