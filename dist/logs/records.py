"""Records: what is told, each on one line however narrow the output, as text for people or as JSON for programs."""

import json
import math
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console

from ...data.debugging import is_debugged
from ...data.errors import UserError
from ...data.escaping import redacted, visible
from ...data.storage.mirror import shown
from ..console import console, visible_output
from . import prometheus
from .settings import is_json, is_quiet, rank

_shown: Console | None = None  # the console of a bar that moves: what is said meanwhile stands above it


def info(message: str, event: str = "note", **fields: Any) -> None:
    """Tells what goes on, on standard error; nothing where it is to be quiet.

    Args:
        message: in one line.
        event: what kind of record it is, in JSON.
        fields: more of it, in JSON.
    """
    if not is_quiet():
        _tell("info", event, message, fields)


def warning(message: str, event: str = "warning", **fields: Any) -> None:
    """Tells what its user should know and need not act on at once, on standard output, with the results."""
    prometheus.add("foundrank_job_warnings_total")
    _tell("warning", event, message, fields, "stdout")


def result(message: str, event: str = "result", **fields: Any) -> None:
    """Tells what came of a job, on standard output."""
    _tell("info", event, message, fields, "stdout")


def hint(message: str) -> None:
    """Tells what could be done next, on standard output, to people who may want to know."""
    if not (is_quiet() or is_json()):
        print(message)


def mistake(error: UserError, status: int) -> None:
    """Tells a user's mistake, on standard error: in one paragraph, or one record."""
    if is_debugged():
        traceback.print_exception(error)
    where, what, remedy = (shown(text) for text in (f"{error.where}", error.what, error.remedy))
    if is_json():
        fields = {"where": where, "what": what, "remedy": remedy, "status": status}
        return _tell("error", "mistake", f"{where}: {what}. {remedy}", fields)
    said = console(stderr=True, soft_wrap=True)
    said.print(f"error: {where}", style="bold red")
    said.print(f"  {what}.\n  {remedy}")


def fault(error: BaseException, status: int, of_rank: bool) -> None:
    """Tells an error that nobody foresaw, on standard error, with its traceback."""
    told = "".join(traceback.format_exception(error))
    if is_json():
        message = f"{type(error).__name__}: {error}"
        return _tell("error", "fault", message, {"traceback": told, "status": status})
    print((f"rank {rank()} failed:\n" if of_rank else "") + told, end="", file=sys.stderr)


def failure(lines: Sequence[str], event: str, status: int) -> None:
    """Tells, on standard error, why a job ends that has no exception to show: in some lines, or one record."""
    if is_json():
        return _tell("error", event, lines[0], {"details": lines[1:], "status": status})
    print("\n".join(lines), file=sys.stderr, flush=True)


@contextmanager
def told_output() -> Iterator[None]:
    """As `visible_output`; and where records are JSON, all else that is printed becomes records, so that each line is one.

    Python's warnings take one line, without the source that gave rise to them.
    """
    before = warnings.showwarning
    with ExitStack() as stack:
        stack.enter_context(visible_output())
        stack.enter_context(redirect_stdout(_Lines(sys.stdout, "info")))  # type: ignore[type-var]
        stack.enter_context(redirect_stderr(_Lines(sys.stderr, "warning")))  # type: ignore[type-var]
        warnings.showwarning = _show_warning
        try:
            yield
        finally:
            warnings.showwarning = before
            for stream in (sys.stdout, sys.stderr):
                stream.flush()


@contextmanager
def beside_a_bar(shown_on: Console) -> Iterator[None]:
    """Within it what is told stands above the bar that this console shows."""
    global _shown
    before, _shown = _shown, shown_on
    try:
        yield
    finally:
        _shown = before


def stamp() -> str:
    """The time now, UTC, to the millisecond, as of ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    said = f"{category.__name__}: {message}"
    if is_json():
        _tell("warning", "warning", said, {"file": filename, "line": lineno})
    else:
        # What anomaly detection tells has the traceback of the forward pass in it.
        print(f"{said if is_debugged() else ' '.join(said.split())} ({filename}:{lineno})", file=sys.stderr)


def _tell(level: str, event: str, message: str, fields: Mapping[str, Any], stream: str = "stderr") -> None:
    if is_json():
        record = {"time": stamp(), "level": level, "rank": rank(), "event": event, "message": message, **fields}
        return _write(getattr(sys, stream), json.dumps(_plain(record), allow_nan=False))
    message = visible(redacted(message))
    if _shown is not None:
        _shown.print(message, soft_wrap=True)
    elif stream == "stdout":
        print(message)
    elif (people := console(stderr=True)).is_terminal or people.is_jupyter:
        people.print(message, soft_wrap=True)
    else:
        _write(sys.stderr, f"{stamp()} rank {rank()}  {message}")


def _write(stream: TextIO, line: str) -> None:
    """Writes a line whole, beside whatever streams do to text."""
    stream = getattr(stream, "as_it_is", stream)
    getattr(stream, "inner", stream).write(f"{line}\n")
    with suppress(ValueError):  # closed by whoever started this
        stream.flush()


def _plain(value: Any) -> Any:
    """What JSON has: no commands to terminals, no secrets, and no number that is none."""
    if isinstance(value, str):
        return visible(redacted(value), keep="\n\t")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, int | None) else _plain(str(value))


class _Lines:
    """A text stream whose lines become records where records are JSON."""

    def __init__(self, inner: TextIO, level: str):
        self.inner, self._level, self._rest = inner, level, ""

    @property
    def as_it_is(self) -> Any:
        """What consoles write to: past it, unless their lines are to be records."""
        return self if is_json() else getattr(self.inner, "as_it_is", self.inner)

    def write(self, text: str) -> int:
        if not is_json():
            return self.inner.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._record(line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._rest and is_json():
            rest, self._rest = self._rest, ""
            self._record(rest)
        self.inner.flush()

    def isatty(self) -> bool:
        return not is_json() and self.inner.isatty()

    def _record(self, line: str) -> None:
        if line.strip():
            # The command line's own mistakes are told by the library that reads it.
            level = "error" if line.lower().startswith("error") else self._level
            record = {"time": stamp(), "level": level, "rank": rank(), "event": "output", "message": line.rstrip()}
            self.inner.write(json.dumps(_plain(record)) + "\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
