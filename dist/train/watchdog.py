"""Ending a training that no longer moves, with a word on what each rank was doing."""

import faulthandler
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ...data.batch.batch import Batch
from ...data.debugging import debugger
from ...data.epoch.order import RankOrder
from ...data.errors import UserError
from ..logs.records import failure
from ..ranks.runtime import Runtime
from ..ranks.statuses import FAULT
from ..run.run_documents import Sign
from ..run.run_folder import read_json, write_json
from .observers import Observer

_SIGN = ".alive.rank{}.json"
_STACKS = "stalled.rank{}.txt"
_EVERY = 5.0  # seconds between signs of life, at most
_LATE = 5.0  # seconds by which a thread that only looks is never late, unless its process was stopped
_GRACE = 2.0  # seconds rank 0 has to speak before the launcher is told by another rank's end


class Watchdog(Observer):
    """A thread that shows in the run folder what its rank does, and ends the process when that is the same for too long.

    Collectives end by themselves only after half an hour, and say which connection was silent, not why.
    """

    def __init__(self, run: Path, runtime: Runtime, limit: float):
        """Args: the run folder, the process group, seconds without a step after which a training has stalled."""
        self._run, self._runtime, self._limit = run, runtime, limit
        self._every = min(_EVERY, limit / 4)
        self._doing, self._since = "", time.monotonic()
        self._step = 0
        self._paused = True
        self._stopped = threading.Event()
        if runtime.is_main:
            for old in (
                *run.glob(_SIGN.format("*")),
                *run.glob(f".{_SIGN.format('*')}.tmp"),
                *run.glob(_STACKS.format("*")),
            ):
                old.unlink(missing_ok=True)  # of an earlier start, perhaps on more ranks
        runtime.barrier()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")
        # debugpy stops all threads at a breakpoint, but for those that say so.
        self._thread.pydev_do_not_trace = self._thread.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
        self._thread.start()

    def before_step(self, number: int) -> None:
        """Says that this rank works on a step from now on."""
        self._paused = False
        self._step = number
        self._do(f"works on step {number}")

    def reading(self, order: RankOrder, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; waiting for one is told apart from the rest of a step."""
        while True:
            self._do(f"waits in step {self._step} for rows of its reader")
            batch = next(batches, None)
            self._do(f"works on step {self._step}")
            if batch is None:
                return
            yield batch

    def before_saving(self) -> None:
        """What follows, until the next step, may take as long as it takes: a slow disk is no stall."""
        self._paused = True

    def finish(self, stopped: bool) -> None:
        """The training is over."""
        self.fail()
        self._sign(self._runtime.rank).unlink(missing_ok=True)

    def fail(self) -> None:
        """Stops watching: a process that outlives its training has not stalled."""
        self._stopped.set()
        self._thread.join()

    def _do(self, what: str) -> None:
        self._doing, self._since = what, time.monotonic()

    def _sign(self, rank: int) -> Path:
        return self._run / _SIGN.format(rank)

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._stopped.wait(self._every):
            late, looked = time.monotonic() - looked - self._every, time.monotonic()
            held = debugger()
            if held is not None or late > _LATE:  # the process as a whole stood still: it was stopped, and goes on
                self._since = time.monotonic()
            doing, seconds = self._doing, time.monotonic() - self._since
            try:
                sign = {"doing": doing, "seconds": seconds, "debugger": held}
                write_json(self._sign(self._runtime.rank), sign | {"host": socket.gethostname(), "pid": os.getpid()})
            except OSError:
                continue  # a full disk is the checkpoint's business
            # Looked at in time: when the other rank goes on, there is half the time left for the rest of the step.
            if seconds > self._limit / 2 and not self._paused and self._waits_for_debugger():
                self._since = time.monotonic()
            elif seconds > self._limit and not self._paused:
                self._end()

    def _waits_for_debugger(self) -> bool:
        """Whether somebody has stopped another rank, for which this one waits."""
        for rank in range(self._runtime.world_size):
            with suppress(OSError, UserError):
                sign = read_json(self._sign(rank), Sign)
                if sign is not None and sign.get("debugger") is not None:
                    return True
        return False

    def _end(self) -> None:
        with (self._run / _STACKS.format(self._runtime.rank)).open("w", encoding="utf-8") as file:
            faulthandler.dump_traceback(file)
        if not self._runtime.is_main:
            time.sleep(_GRACE)
        failure(self._told(), "stalled", FAULT)
        os._exit(FAULT)

    def _told(self) -> list[str]:
        """Every rank's last sign of life; their ages are by the clock of the folder's disk."""
        now = self._sign(self._runtime.rank).stat().st_mtime
        lines = [
            f"error: no step in {self._limit:g} s, so the training was ended; run again to resume from the newest checkpoint"
        ]
        for rank in range(self._runtime.world_size):
            try:
                told = read_json(self._sign(rank), Sign)
                silent = now - self._sign(rank).stat().st_mtime
            except (OSError, UserError):
                told = None
            if told is None:
                lines.append(f"  rank {rank} has never shown itself")
                continue
            if silent > 3 * self._every:
                lines.append(f"  rank {rank} has not been heard of for {silent:.0f} s; it was then: {told['doing']}")
            else:
                lines.append(f"  rank {rank} {told['doing']}, for {told['seconds']:.0f} s")
        return [*lines, f"  where this rank's threads were: {self._run / _STACKS.format(self._runtime.rank)}"]
