"""Ranks of this machine: started, watched, ended together.

They meet in a file of a folder that only this user can enter, and talk through the loopback interface. torch's own launcher has a
key-value store for that which listens on all interfaces and unpickles what anyone writes into it.
"""

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from ...data.arrow.without_pandas import leave_pandas_out
from ..logs.records import failure
from .cores import set_threads
from .environment import number
from .launch import SIGNALS, STORE, TOLD, forks, tell_stopping
from .statuses import DONE, FAULT, INTERRUPTED, TRY_AGAIN
from .temporary_folder import private_folder, remove_private_folder

_HEEDED = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, *SIGNALS)


class _Asked(BaseException):
    """A signal to this process."""

    def __init__(self, number: int):
        self.number = number


def spawn(work: Callable[[], None], processes: int, own_process: bool = True) -> int:
    """Runs ``work()``, which can be pickled, as ``processes`` ranks and waits; the exit status of the first rank that failed, or 0.

    Standard output and errors of all ranks come through; when one fails the others are ended. A signal is passed on to the
    ranks, which have TORCH_ELASTIC_SHUTDOWN_TIMEOUT seconds to end, 30 if it is not set.

    In a process that is not foundrank's own nothing is left behind: ranks begin anew there, for a process that forks them would stay.

    Raises:
        UserError: that is no number.
    """
    patience = number("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", 30)
    set_threads(processes)
    context: Any = get_context("forkserver" if own_process and forks() else "spawn")
    store = private_folder() / "store"
    store.with_name(f"{store.name}{TOLD}").unlink(missing_ok=True)  # of ranks before these
    ranks: list[BaseProcess] = []
    try:
        with _signals_raise():
            try:
                for rank in range(processes):
                    ranks.append(context.Process(target=_begin, args=(rank, processes, str(store), work, own_process)))
                    ranks[-1].start()
                return _status(ranks)
            except _Asked as asked:
                if asked.number not in SIGNALS:
                    raise
                tell_stopping(asked.number)
                _end(ranks, asked.number, patience)
                return _asked_status(ranks)
    except _Asked as asked:
        _end(ranks, asked.number, patience)
        return 128 + asked.number  # as a shell says it
    finally:
        _end(ranks, signal.SIGTERM, patience)
        if not own_process:
            remove_private_folder()


def _status(ranks: Sequence[BaseProcess]) -> int:
    """Waits until all have ended, or one has failed."""
    waiting = {process.sentinel: rank for rank, process in enumerate(ranks)}
    while waiting:
        for sentinel in wait(list(waiting)):
            rank = waiting.pop(sentinel)  # type: ignore[call-overload]
            ranks[rank].join()
            status = ranks[rank].exitcode
            if status == -signal.SIGINT:  # Ctrl-C reaches all processes of a terminal, a rank perhaps first
                return INTERRUPTED
            if status is not None and status < 0:
                failure([f"rank {rank} was ended by signal {-status}"], "killed", FAULT)
                return FAULT
            if status:
                return status
    return 0


def _asked_status(ranks: Sequence[BaseProcess]) -> int:
    """Of ranks that were asked to stop: what kept one from it, as a full disk does; that it was done already; else to try again."""
    statuses = [rank.exitcode for rank in ranks]
    failed = [status for status in statuses if status is not None and status > 0 and status != TRY_AGAIN]
    return failed[0] if failed else DONE if set(statuses) == {DONE} else TRY_AGAIN


def _end(ranks: Sequence[BaseProcess], asked: int, patience: int) -> None:
    """Ends those that are still there: asked at first, then not any more."""
    for rank in ranks:
        if rank.pid is not None and rank.is_alive():
            with suppress(ProcessLookupError):  # it has ended just now, and what forked it has taken note
                os.kill(rank.pid, asked)
    deadline = time.monotonic() + patience
    for rank in ranks:
        if rank.pid is not None:
            rank.join(max(0.0, deadline - time.monotonic()))
            if rank.is_alive():
                rank.kill()
                rank.join()


@contextmanager
def _signals_raise() -> Iterator[None]:
    asked: list[int] = []

    def ask(number: int, _: object) -> None:
        asked.append(number)
        if len(asked) == 1 or number not in SIGNALS:  # `timeout` and Slurm send several of those
            raise _Asked(number)

    # What is ignored, as under nohup, stays so. Python hears of signals in its main thread alone.
    here = threading.current_thread() is threading.main_thread()
    heeded = [one for one in _HEEDED if here and signal.getsignal(one) != signal.SIG_IGN]
    before: dict[signal.Signals, Any] = {one: signal.signal(one, ask) for one in heeded}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _begin(rank: int, ranks: int, store: str, work: Callable[[], None], own_process: bool) -> None:
    """What a rank begins with."""
    threading.Thread(target=_end_with_launcher, name="launcher", daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # `preload` has it blocked where this was forked from
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    os.environ.update({name: str(value) for name, value in told.items()} | {STORE: store})
    gc.freeze()  # looking for garbage in what the process it was forked from imported would copy every page of that
    gc.enable()  # which that process did without
    if own_process:  # no code but foundrank's is in it, as kinds of the user's are where Python started the ranks
        leave_pandas_out()
    work()


def _end_with_launcher() -> None:
    """A launcher that is killed takes its ranks along."""
    launcher = parent_process()
    assert launcher is not None
    launcher.join()
    os._exit(FAULT)
