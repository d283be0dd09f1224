"""All present aspects weigh the same."""

from typing import Literal

from torch import Tensor, nn

from ...data.settings_base import Strict
from ..layers.axes import Axis
from .weighted_sum import fuse


class Mean(Strict):
    """All present aspects weigh the same."""

    kind: Literal["mean"] = "mean"

    def build(self, width: int, aspects: Axis) -> nn.Module:
        """The module; arguments as in `gates`."""
        return UniformGate()


class UniformGate(nn.Module):
    """All present aspects weigh the same. No parameters."""

    def forward(self, aspects: Tensor, present: Tensor, domains: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        weights = present / present.sum(1, keepdim=True).clamp_min(1)
        return fuse(aspects, weights), weights
