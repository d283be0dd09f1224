"""Tuning: so many trials at a time until there are as many as asked for, and what came of them."""

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from optuna.trial import TrialState

from ...data.errors import UserError
from ..logs.progress import Progress
from ..logs.records import info
from ..ranks.launch import SIGNALS, tell_stopping
from ..ranks.statuses import DONE, TRY_AGAIN
from ..run.run_folder import CHECKPOINTS
from .outcome import write_best, write_page
from .prepare import Tuning
from .training import RUN
from .trials import ERROR, TENTHS, Trials
from .work import Work

_LOOK = 0.2  # seconds
_PAGE_EVERY = 60.0  # seconds
_HOPELESS = 5  # trials that fail before one has not


def run_tuning(job: Tuning, trials: Trials, parallel: int, keep: int) -> int:
    """Works on trials until all are done or taken, and writes what came of them.

    Args:
        job: what is tuned.
        trials: of its folder.
        parallel: trainings at a time.
        keep: the best trials whose checkpoints stay.

    Returns:
        The exit status.

    Raises:
        UserError: no trial can be judged, or the first ones all fail.
    """
    at_work: dict[int, Work] = {}
    with _signals() as asked, Progress("tuning", total=trials.most, said=_said(trials)) as progress:
        try:
            page_at, more = 0.0, True
            while not asked and (more or at_work):
                while more and len(at_work) < parallel and (claimed := trials.claim()) is not None:
                    slot = min(set(range(parallel)) - at_work.keys())
                    at_work[slot] = Work(job, claimed, slot, parallel)
                progress.done = len(trials.done())
                progress.share = min(1.0, progress.done / trials.most)
                time.sleep(_LOOK)
                ended = {slot: work for slot, work in at_work.items() if work.look()}
                more = bool(ended)
                for slot, work in ended.items():
                    del at_work[slot]
                    _tell(trials, work.claimed.number)
                if ended:
                    _check_hope(trials)
                    with trials.alone():
                        _tidy(trials, keep)
                if ended and time.monotonic() > page_at:
                    _write(job, trials)
                    page_at = time.monotonic() + _PAGE_EVERY
        finally:
            for work in at_work.values():
                work.leave()
    if asked:
        return TRY_AGAIN
    _write(job, trials)
    return DONE


def _write(job: Tuning, trials: Trials) -> None:
    with trials.alone():
        write_best(job, trials)
        write_page(job, trials)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Requests to stop, as they come in; trainings get time to write a checkpoint."""
    asked: list[int] = []

    def ask(number: int, _: object) -> None:
        if not asked:
            tell_stopping(number)
        asked.append(number)

    before = {one: signal.signal(one, ask) for one in SIGNALS if signal.getsignal(one) != signal.SIG_IGN}
    try:
        yield asked
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _said(trials: Trials) -> Callable[[Progress], tuple[str, dict[str, Any]]]:
    """What a line of progress says."""

    def said(progress: Progress) -> tuple[str, dict[str, Any]]:
        best = trials.best()
        words = f"{progress.done:.0f} of {trials.most} trials"
        words += f"  best {best.value:.5f}, trial {best.number}" if best is not None else ""
        return words, {"trials": round(progress.done), "best": best.value if best is not None else None}

    return said


def _tell(trials: Trials, number: int) -> None:
    one, best = trials.study.get_trials(deepcopy=False)[number], trials.best()
    if one.state == TrialState.COMPLETE:
        told = f"{one.value:.5f}"
    elif ERROR in one.user_attrs:
        told = f"failed: {one.user_attrs[ERROR]}"
    elif one.state.is_finished():
        epochs = max(one.intermediate_values, default=0) / TENTHS
        told = f"given up after {epochs:g} epoch{'s' if epochs != 1 else ''}"
    else:
        told = "left"
    beside = f"; best so far {best.value:.5f}, trial {best.number}" if best is not None else ""
    info(f"trial {number}: {told}{beside}", "trial", trial=number, value=one.value, state=one.state.name.lower())


def _check_hope(trials: Trials) -> None:
    """Makes sure that something may come of it: a trial has come to its end, or may yet.

    Raises:
        UserError: the first trials have all failed, or all trials.
    """
    done = trials.done()
    if (
        trials.best() is None
        and len(done) >= min(_HOPELESS, trials.most)
        and all(ERROR in one.user_attrs for one in done)
    ):
        said = done[0].user_attrs[ERROR]
        where, what = trials.folder(done[0].number), f"failed, as all {len(done)} trials so far; it said: {said}"
        raise UserError(where, what, "Mend that, and tune into another folder.")


def _tidy(trials: Trials, keep: int) -> None:
    """Removes the checkpoints of all but the best trials, of those that have ended."""
    best = sorted(trials.whole(), key=lambda one: (-(one.value or 0), one.number))
    kept = {one.number for one in best[:keep]}
    for one in trials.done():
        if one.number not in kept:
            shutil.rmtree(trials.folder(one.number) / RUN / CHECKPOINTS, ignore_errors=True)
