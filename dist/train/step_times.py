"""Where the time of a training goes: until its first step, and in each step."""

import time
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from .observers import Observer, Step

PARTS: tuple[str, ...] = ("data", "exchange", "forward", "backward", "optimizer")
"""Waiting for a batch; sending ids to the ranks that hold their rows; lookups and network up to the loss; gradients, the
tables' updates and the sums over ranks; the dense part's update."""


class StepTimes:
    """Adds up the time between marks. On a GPU the marks are events on its stream, read only when the sums are asked for."""

    def __init__(self, model: nn.Module, device: torch.device):
        """Args: the sharded model, whose forward and backward are marked from now on, and its device."""
        self._cuda = device.type == "cuda"
        # The pipeline copies on streams of its own; all marks are on the one that computes.
        self._stream = torch.cuda.current_stream(device) if self._cuda else None
        self.restart()
        model.register_forward_pre_hook(lambda *_: self.mark("exchange"))
        model.register_forward_hook(self._after_forward)

    def mark(self, part: str) -> None:
        """Says that what has gone on since the last mark was ``part``."""
        self._marks.append((part, self._now()))

    def seconds(self) -> list[float]:
        """Seconds of each of `PARTS` since the last call."""
        totals: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        if self._cuda:
            self._marks[-1][1].synchronize()
        for (_, before), (part, now) in zip(self._marks, self._marks[1:], strict=False):
            totals[part] += before.elapsed_time(now) / 1000 if self._cuda else now - before
        self.restart()
        return list(totals.values())

    def restart(self) -> None:
        """Forgets what has been marked; time counts from now."""
        self._marks = [("", self._now())]

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event

    def _after_forward(self, model: nn.Module, inputs: Any, outputs: tuple[Tensor, Any]) -> None:
        self.mark("forward")
        if outputs[0].requires_grad:  # the loss; its hook is the first thing that a backward calls
            outputs[0].register_hook(lambda gradient: self.mark("exchange"))


class Startup(Observer):
    """Seconds from the start of this process to its first step, part by part.

    Attributes:
        seconds: part -> seconds.
        first_step_at: when the first step was done, in seconds since 1970.
    """

    def __init__(self, began: float, checks: float):
        """Args: when the checks began, in seconds since 1970, and how long they took, in this process or before it was started."""
        started = psutil.Process().create_time()
        own = time.time() - started - (checks if started < began else 0.0)
        self.seconds = {"process and imports": own, "checks": checks}
        self.first_step_at: float | None = None
        self._last = time.perf_counter()

    def done(self, part: str) -> None:
        """Says that ``part`` is over."""
        now = time.perf_counter()
        self.seconds[part], self._last = now - self._last, now

    def after_step(self, step: Step) -> None:
        """Takes note of the first step."""
        if self.first_step_at is None:
            self.done("first batch and step")
            self.first_step_at = time.time()


def memory_mb(device: torch.device) -> float:
    """Memory this process holds now: of the GPU where there is one, else resident."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device) / 2**20
    return psutil.Process().memory_info().rss / 2**20
