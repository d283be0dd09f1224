"""How learning rates rise and fall over a training: shares of their peak."""

import math
from typing import Literal

from pydantic import Field

from ...data.settings_base import Share, Strict

_WARMUP = Field(default=0.05, description="share of the steps over which learning rates rise from 0")
_FINAL = Field(default=0.05, ge=0, le=1, description="share of the peak left at the last step")


class Cosine(Strict):
    """A linear rise, then half a cosine down (Loshchilov and Hutter, 2017)."""

    kind: Literal["cosine"] = "cosine"
    warmup_share: Share = _WARMUP
    final_lr_share: float = _FINAL

    def share(self, progress: float) -> float:
        """Of the peak, when ``progress`` (0 to 1) of the training is done."""
        fallen = 0.5 * (1 + math.cos(math.pi * _after(progress, self.warmup_share)))
        return _risen(progress, self.warmup_share) or self.final_lr_share + (1 - self.final_lr_share) * fallen


class Linear(Strict):
    """A linear rise, then a linear fall."""

    kind: Literal["linear"] = "linear"
    warmup_share: Share = _WARMUP
    final_lr_share: float = _FINAL

    def share(self, progress: float) -> float:
        """Of the peak, when ``progress`` (0 to 1) of the training is done."""
        fallen = 1 - _after(progress, self.warmup_share)
        return _risen(progress, self.warmup_share) or self.final_lr_share + (1 - self.final_lr_share) * fallen


class Constant(Strict):
    """A linear rise, then the peak."""

    kind: Literal["constant"] = "constant"
    warmup_share: Share = _WARMUP

    def share(self, progress: float) -> float:
        """Of the peak, when ``progress`` (0 to 1) of the training is done."""
        return _risen(progress, self.warmup_share) or 1.0


def _risen(progress: float, warmup: float) -> float | None:
    """The share while it rises; None after that. Never 0, which optimizers make nothing of."""
    return max(progress, 1e-3 * warmup) / warmup if progress < warmup else None


def _after(progress: float, warmup: float) -> float:
    """How much of the time after the rise is over, 0 to 1."""
    return min((progress - warmup) / max(1 - warmup, 1e-9), 1.0)
