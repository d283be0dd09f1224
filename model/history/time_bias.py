"""How long ago: a learned bias per interval of time between a place in the sequence and the past items it sees."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ..layers.axes import declare
from .sequence import RowGroup

SeesTimes = Annotated[
    bool, Field(description="attention also sees how long ago a past item was; needs entities.user.history.times")
]
"""A setting of encoders of sequences: ``time_bias``."""

BUCKETS = 64  # two for each doubling: from a second to a century


def bucket(seconds: Tensor) -> Tensor:
    """Bucket of intervals in int64 seconds, negative ones counting as none."""
    return (2 * (1 + seconds.clamp_min(0)).float().log2()).long().clamp_max(BUCKETS - 1)


class TimeBias(nn.Module):
    """A bias per head and interval, as HSTU has it (Zhai et al., 2024).

    A causal place asks at the moment of what comes next, which is known when it is asked for: the newest at that of the event.
    """

    def __init__(self, heads: int, causal: bool):
        super().__init__()
        self.causal = causal
        self.biases = nn.Parameter(torch.randn(BUCKETS, heads) * 0.02)
        declare(self, {"biases": ("bucket", "head")})

    def forward(self, group: RowGroup, ages: Tensor) -> Tensor:
        """``[R, H, T, T]``: of each place for each item, from ages ``[N]``."""
        if group.intervals is None:
            group.intervals = self._intervals(group.padded(ages))
        return self.biases[group.intervals].permute(0, 3, 1, 2)

    def _intervals(self, then: Tensor) -> Tensor:
        """``[R, T]`` ages -> ``[R, T, T]`` buckets."""
        if not self.causal:
            return bucket((then[:, None, :] - then[:, :, None]).abs())
        # Behind a row's items ages are 0, so the newest asks at the event's time, wherever it stands.
        asked = torch.cat([then[:, 1:], torch.zeros_like(then[:, :1])], 1)
        return bucket(then[:, None, :] - asked[:, :, None])
