"""The mean of the aspects decides."""

from typing import Literal

from torch import Tensor, nn

from ...data.settings_base import Strict
from ..layers.axes import Axis, linear
from .weighted_sum import fuse, masked_softmax


class MeanGate(Strict):
    """The mean of the present aspects decides, through one linear layer."""

    kind: Literal["mean_gate"] = "mean_gate"

    def build(self, width: int, aspects: Axis) -> nn.Module:
        """The module; arguments as in `gates`."""
        return LinearGate(width, aspects)


class LinearGate(nn.Module):
    """The mean of the present aspects decides, through one linear layer."""

    def __init__(self, width: int, aspects: Axis):
        super().__init__()
        self.score = linear(width, aspects)

    def forward(self, aspects: Tensor, present: Tensor, domains: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        uniform = present / present.sum(1, keepdim=True).clamp_min(1)
        weights = masked_softmax(self.score(fuse(aspects, uniform)), present)
        return fuse(aspects, weights), weights
