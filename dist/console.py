"""What reaches the terminal: styles and tables of our own, and of everybody else's text nothing but the text, less secrets."""

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from io import TextIOWrapper
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status

from ..data.escaping import redacted, visible

_WIDTHS = range(20, 1001)
"""Columns in which there is something to read; what COLUMNS says beyond them is nobody's terminal."""

_ROOM, _RULE = 10_000, 80
"""Columns for tables where there is no terminal, and of a rule there."""

_OF_CXX = "TORCH_CPP_LOG_LEVEL"
NOISY = [logging.getLogger(name) for name in ("torch.fx", "torchrec", "torch.distributed", "torch.multiprocessing")]
"""Loggers of notes that libraries have for their own developers."""


def silence_libraries() -> None:
    """Keeps libraries' notes to their own developers out of a user's terminal; before they are imported, best of all."""
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|torchrec|fbgemm_gpu)\b")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch|torchrec|fbgemm_gpu)\b")
    # Arrow's memory and mapped files are read alone, and tensors of them are never written to.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
    # Of C++: traces of connections that end with their job, where another rank is through a little earlier.
    os.environ.setdefault(_OF_CXX, "ERROR")
    for logger in NOISY:
        logger.setLevel(logging.ERROR)


@contextmanager
def silenced_libraries() -> Iterator[None]:
    """Within it `silence_libraries`; at its end warnings, loggers and the environment are as before."""
    levels, of_cxx = [logger.level for logger in NOISY], os.environ.get(_OF_CXX)
    with warnings.catch_warnings():
        silence_libraries()
        try:
            yield
        finally:
            if of_cxx is None:
                os.environ.pop(_OF_CXX, None)
            for logger, level in zip(NOISY, levels, strict=True):
                logger.setLevel(level)


def console(stderr: bool = False, **options: Any) -> Console:
    """A console whose text holds no commands; what looks like rich's markup is text, too.

    What a pipe or a file is given is neither wrapped nor cut.

    Args:
        stderr: whether it is for standard error.
        options: of rich's Console.
    """
    stream = sys.stderr if stderr else sys.stdout
    if not stderr and not stream.isatty():
        options = {"width": _ROOM, **options}
    if not (columns := os.environ.get("COLUMNS", "")).isdecimal() or int(columns) not in _WIDTHS:
        options = {"_environ": {name: value for name, value in os.environ.items() if name != "COLUMNS"}, **options}
    return _Console(file=getattr(stream, "as_it_is", stream), markup=False, highlight=False, **options)


class _Console(Console):
    def status(self, *said: Any, **options: Any) -> Status:
        """As of rich, which in a notebook could show it with widgets alone: there it is left out."""
        silent = Console(quiet=True, force_jupyter=False)
        return silent.status(*said, **options) if self.is_jupyter else super().status(*said, **options)

    def rule(self, *said: Any, **options: Any) -> None:
        """As of rich, and no longer than a line that is looked at."""
        if self.width == _ROOM:
            self.print("─" * _RULE)
        else:
            super().rule(*said, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(_told(segment.text), segment.style)


@contextmanager
def visible_output() -> Iterator[None]:
    """Within it all that is printed, by libraries and in tracebacks too, holds no commands to a terminal and no secrets of URIs."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  for as long as the process lives
        if isinstance(stream := getattr(sys, name), TextIOWrapper):
            stream.reconfigure(errors="replace")  # of what the terminal has no character for
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(_Visible(sys.stdout)))  # type: ignore[type-var]
        stack.enter_context(redirect_stderr(_Visible(sys.stderr)))  # type: ignore[type-var]
        yield


def _told(text: str) -> str:
    return visible(redacted(text), keep="\n\t")


class _Visible:
    """A text stream; ``as_it_is`` is the one it writes to."""

    def __init__(self, stream: TextIO):
        self.as_it_is = getattr(stream, "as_it_is", stream)

    def write(self, text: str) -> int:
        inner = text.strip("\r")  # at the ends, as progress bars have it, it goes to where the text begins
        self.as_it_is.write(text.replace(inner, _told(inner), 1))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.as_it_is, name)
