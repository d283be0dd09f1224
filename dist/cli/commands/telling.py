"""What every command that works for a while takes: how it is to tell of it."""

import inspect
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ...logs import settings
from .options import LOCAL


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


_OPTIONS = inspect.signature(_asked).parameters


def telling(command: Callable[..., None]) -> Callable[..., None]:
    """The command with these options besides its own."""

    @wraps(command)
    def with_options(**given: Any) -> None:
        _asked(**{name: given.pop(name) for name in _OPTIONS})
        command(**given)

    own = inspect.signature(command)
    with_options.__signature__ = own.replace(parameters=[*own.parameters.values(), *_OPTIONS.values()])  # type: ignore[attr-defined]
    with_options.__annotations__ = command.__annotations__ | _asked.__annotations__
    return with_options
