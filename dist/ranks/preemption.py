"""Stopping a training when a scheduler asks for it: after the same step on every rank, with a checkpoint."""

import signal
import threading
from typing import Any

import torch
import torch.distributed as torch_dist

from ...data.errors import UserError
from .environment import launched
from .launch import SIGNALS
from .runtime import Runtime


class Preemption:
    """A context in which the signals can be listened to; what they did before is restored at its end."""

    def __init__(self, runtime: Runtime):
        """A collective: every rank makes one."""
        self._runtime = runtime
        self._told: int | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._apart = runtime.apart() if runtime.world_size > 1 else None
        self._pending: tuple[Any, torch.Tensor] | None = None

    def __enter__(self) -> "Preemption":
        return self

    def listen(self) -> None:
        """From now on a signal is taken note of, where it ended the process before. Python hears of them in its main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._before = {one: signal.signal(one, self._take_note) for one in SIGNALS}

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
        if kind is not None and self._told is not None and launched() and not issubclass(kind, UserError):
            signal.raise_signal(self._told)  # the launcher ends this rank because another failed, which has told why
        if kind is None and self._apart is not None:
            if self._pending is not None:
                self._pending[0].wait()
            self._apart.leave()

    def check(self) -> bool:
        """Whether to stop now; to be called on every rank after every step.

        The answer is what the ranks knew a step ago, so that none waits for another to hear it.
        """
        if self._apart is None:
            return self._told is not None
        stop = False
        if self._pending is not None:
            work, anyone = self._pending
            work.wait()
            stop = bool(anyone.item())
        told = torch.tensor([int(self._told is not None)])
        self._pending = (torch_dist.all_reduce(told, torch_dist.ReduceOp.MAX, self._apart.group, async_op=True), told)
        return stop

    def is_told(self) -> bool:
        """Whether to stop, as any rank knows by now; to be called on every rank, and they wait for one another."""
        before, now = self.check(), self.check()
        return before or now

    def _take_note(self, number: int, _: object) -> None:
        self._told = number
