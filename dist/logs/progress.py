"""Progress of long work: a bar where there is a terminal or a notebook, else a line now and then; told by time, not by step.

A thread tells what the innermost work has come to, and writes the file for Prometheus. The work itself only counts.
"""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import ProgressColumn, Task, TaskID, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from ..console import console
from . import prometheus
from .progress_bars import has_bars, progress_bars
from .records import beside_a_bar, info
from .settings import is_json, metrics_file, rank, shows_progress

FIRST, EVERY = 3.0, 10.0  # seconds until the first line of some work, and between two
_NARROW = 60  # columns of a terminal in which a bar is short
_BRIEF = 1.0  # seconds; a bar of work that took no longer, or whose length nobody knew, is gone when it ends

_stack: list["Progress"] = []
_over = threading.Event()
_thread: threading.Thread | None = None
_bars: Bars | None = None
_bars_shown = ExitStack()


class Progress:
    """Some work that takes a while, within ``with``; other work may go on inside it.

    Attributes:
        done: how much of it is done, all ranks together.
        share: of it that is done, 0 to 1, where that is not ``done`` of the total; may be set.
    """

    def __init__(
        self,
        what: str,
        unit: str = "",
        total: float | None = None,
        metric: str = "",
        main: bool | None = None,
        said: "Callable[[Progress], tuple[str, dict[str, Any]]] | None" = None,
    ):
        """A description of the work.

        Args:
            what: is done, e.g. "scoring".
            unit: what is counted, e.g. "rows".
            total: how many there are, where that is known.
            metric: the kind of work for Prometheus, of `prometheus.WORK`.
            main: whether this process tells of it; by default rank 0 does.
            said: what to tell beside the share and the time left, as words and as fields of a record; else count and rate.
        """
        self.what, self.unit, self.total, self.metric = what, unit, total, metric
        self.done = 0.0
        self._share: float | None = None
        self._main = rank() == 0 if main is None else main
        self._said = said or Progress._counted
        self._task: TaskID | None = None
        self._begun_share = 0.0
        self._moved: tuple[float, float | None] = (0.0, None)
        self._counted_before = prometheus.value(self._name(f"{self._counted_as}_total")) or 0.0 if metric else 0.0

    @property
    def share(self) -> float | None:
        """Of the work that is done, 0 to 1; None where nobody knows."""
        if self._share is not None:
            return self._share
        return min(1.0, self.done / self.total) if self.total else None

    @share.setter
    def share(self, share: float) -> None:
        self._share = share

    def begin_at(self, share: float) -> None:
        """Says that this share was done before, so that the time left is that of the rest."""
        self._share = self._begun_share = share

    def add(self, count: float) -> None:
        """Says that so many more are done."""
        self.done += count

    def __enter__(self) -> "Progress":
        self._begun = self._moved_at = time.monotonic()
        if self._main:
            _push(self)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self in _stack:
            _pop(self, failed=kind is not None)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._begun

    def remaining(self) -> float | None:
        """Seconds that are left, at the rate so far; None where nobody knows."""
        share, seconds = self.share, self.seconds
        if share is None or share <= self._begun_share or seconds < 0.5:
            return None
        return seconds * (1 - share) / (share - self._begun_share)

    def rate(self) -> float:
        """Counted in a second, so far."""
        return self.done / max(self.seconds, 1e-9)

    def tell(self) -> None:
        """Writes a line of it, where there are no bars."""
        if not self._main or not shows_progress() or _bars is not None:
            return
        words, fields = self._said(self)
        if (still := self._still()) > 2 * EVERY:
            words += f"  the same for {still:.0f} s"
        left = self.remaining()
        known = {"share": self.share, "eta_s": left, "elapsed_s": self.seconds, "done": self.done, "total": self.total}
        fields = {"work": self.what, **known, **({"unit": self.unit} if self.unit else {}), **fields}
        info(f"{self.what}  {self.headline()}{words}".rstrip(), "progress", **fields)

    def headline(self) -> str:
        """Share and time left, in columns."""
        share, left = self.share, self.remaining()
        if share is None:
            return f"{clock(self.seconds)}  "
        when = f"in {clock(self.seconds)}" if share >= 1 else f"ETA {clock(left) if left is not None else '-:--:--'}"
        return f"{share:4.0%}  {when:11}  "

    def words(self, room: int) -> str:
        """What there is to tell beside the headline, in so many columns: the first words, whole ones."""
        parts = self._said(self)[0].split("  ")
        while len(parts) > 1 and len("  ".join(parts)) > room:
            parts.pop()
        return "  ".join(parts)

    def note(self) -> None:
        """Hands the numbers on to Prometheus' file."""
        if self.metric:
            prometheus.note(self._name("progress_ratio"), self.share)
            prometheus.note(self._name("remaining_seconds"), self.remaining())
            prometheus.note(self._name(f"{self._counted_as}_total"), self._counted_before + self.done)
            prometheus.note(self._name(f"{self._counted_as}_per_second"), self.rate())
            for name, number in self._said(self)[1].items():
                if self._name(name) in prometheus.FAMILIES:
                    prometheus.note(self._name(name), number)

    @property
    def _counted_as(self) -> str:
        return prometheus.WORK[self.metric]

    def _name(self, number: str) -> str:
        return f"foundrank_{self.metric}_{number}"

    def _still(self) -> float:
        """Seconds in which nothing has moved."""
        now = (self.done, self.share)
        if now != self._moved:
            self._moved, self._moved_at = now, time.monotonic()
        return time.monotonic() - self._moved_at

    def _counted(self) -> tuple[str, dict[str, Any]]:
        if not self.unit:
            return "", {}
        of = f" of {self.total:,.0f}" if self.total else ""
        rate = self.rate()
        return f"{self.done:,.0f}{of} {self.unit}  {rate:,.0f} {self.unit}/s", {"rate": rate}


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return str(timedelta(seconds=round(min(seconds, 8.64e8))))


def _push(work: Progress) -> None:
    global _thread, _bars
    _stack.append(work)
    shown = console(stderr=True)
    # What has no length leaves nothing worth keeping in a notebook.
    if shows_progress() and not is_json() and has_bars(shown) and (work.unit or not shown.is_jupyter):
        if _bars is None:
            _bars = progress_bars(shown, *_columns(shown))
            _bars.start()
            _bars_shown.enter_context(beside_a_bar(_bars.console)) if not shown.is_jupyter else None
        work._task = _bars.add_task(work.what, total=1.0, work=work)
    if len(_stack) == 1 and (shows_progress() or metrics_file() is not None):
        _over.clear()
        _thread = threading.Thread(target=_watch, daemon=True, name="progress")
        _thread.start()


def _pop(work: Progress, failed: bool) -> None:
    global _thread, _bars
    _stack.remove(work)
    if not failed and work.total:
        work.done = max(work.done, work.total) if work._share is None else work.done
    work.note()
    if not _stack and _thread is not None:
        _over.set()
        _thread.join()
        _thread = None
        prometheus.write()
    if _bars is None or work._task is None:
        return
    if _stack:
        _bars.remove_task(work._task)
    else:
        _bars.live.transient = work.seconds < _BRIEF or work.share is None
        _bars.stop()
        _bars = None
        _bars_shown.close()


def _watch() -> None:
    wait = FIRST
    while not _over.wait(wait):
        wait = EVERY
        # Nobody takes what is said any more, or the innermost work has just ended: neither is a reason to fail.
        with suppress(OSError, ValueError, IndexError):
            _stack[-1].tell()
        for work in list(_stack):
            work.note()
        prometheus.write()


def _columns(shown: Console) -> list[ProgressColumn]:
    """What a bar consists of: share and time left are there in any width, the rest takes what is left."""
    rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    fixed = Column(no_wrap=True)
    bar = 8 if shown.width < _NARROW else 20

    def words(work: Progress) -> str:
        return work.words(
            shown.width - len(work.what) - bar - len(work.headline().rstrip()) - 3
        )  # a space each between

    return [
        TextColumn("{task.description}", table_column=fixed),
        _Bar(bar),
        _Words(lambda work: work.headline().rstrip(), fixed),
        _Words(words, rest),
    ]


class _Bar(ProgressColumn):
    def __init__(self, width: int):
        super().__init__(Column(no_wrap=True))
        self._width = width

    def render(self, task: Task) -> ProgressBar:
        share = task.fields["work"].share
        pulse = share is None
        return ProgressBar(1.0, share or 0.0, self._width, pulse=pulse, animation_time=task.get_time())


class _Words(ProgressColumn):
    def __init__(self, words: Callable[[Progress], str], column: Column):
        super().__init__(column)
        self._words = words

    def render(self, task: Task) -> Text:
        return Text(self._words(task.fields["work"]), no_wrap=True, overflow="ellipsis")
