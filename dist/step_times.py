"""Where the time of a training step goes."""

import time
from typing import Any

import psutil
import torch
from torch import Tensor, nn

PARTS: tuple[str, ...] = ("data", "exchange", "forward", "backward", "optimizer")
"""Waiting for a batch; sending ids to the ranks that hold their rows; lookups and network up to the loss; gradients, the
tables' updates and the sums over ranks; the dense part's update."""


class StepTimes:
    """Adds up the time between marks. On a GPU the marks are events on its stream, read only when the sums are asked for."""

    def __init__(self, model: nn.Module, device: torch.device):
        """Args: the sharded model, whose forward and backward are marked from now on, and its device."""
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []
        model.register_forward_pre_hook(lambda *_: self.mark("exchange"))
        model.register_forward_hook(self._after_forward)

    def mark(self, part: str) -> None:
        """Says that what has gone on since the last mark was ``part``."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
        else:
            event = time.perf_counter()
        self._marks.append((part, event))

    def seconds(self) -> list[float]:
        """Seconds of each of `PARTS` since the last call."""
        totals: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        if self._cuda and self._marks:
            self._marks[-1][1].synchronize()
        for (_, before), (part, now) in zip(self._marks, self._marks[1:], strict=False):
            totals[part] += before.elapsed_time(now) / 1000 if self._cuda else now - before
        self._marks = self._marks[-1:]
        return list(totals.values())

    def skip(self) -> None:
        """Forgets what has been marked, after work that was no training."""
        self._marks = []

    def _after_forward(self, model: nn.Module, inputs: Any, outputs: tuple[Tensor, Any]) -> None:
        self.mark("forward")
        if outputs[0].requires_grad:  # the loss; its hook is the first thing that a backward calls
            outputs[0].register_hook(lambda gradient: self.mark("exchange"))


def memory_mb(device: torch.device) -> float:
    """Memory this process holds now: of the GPU where there is one, else resident."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device) / 2**20
    return psutil.Process().memory_info().rss / 2**20
