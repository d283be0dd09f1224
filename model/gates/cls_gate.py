"""A learned vector attends over the aspects."""

from typing import Literal

import torch
from torch import Tensor, nn

from ...data.settings_base import Strict
from ..layers.axes import Axis, declare, linear
from .weighted_sum import fuse, masked_softmax


class ClsGate(Strict):
    """A learned CLS vector attends over the aspects."""

    kind: Literal["cls_gate"] = "cls_gate"

    def build(self, width: int, aspects: Axis) -> nn.Module:
        """The module; arguments as in `gates`."""
        return ClsAttention(width)


class ClsAttention(nn.Module):
    """A learned CLS vector c attends over the aspects, softmax_a(cᵀ K h_a / √D)."""

    def __init__(self, width: int):
        super().__init__()
        self.cls = nn.Parameter(torch.randn(width) * 0.1)
        self.key = linear(width, width, bias=False)
        declare(self, {"cls": ("width",)})

    def forward(self, aspects: Tensor, present: Tensor, domains: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        # (cᵀ K) h_a: one vector for the whole batch instead of a key per row and aspect.
        query = self.cls @ self.key.weight
        weights = masked_softmax(aspects @ query * query.shape[0] ** -0.5, present)
        return fuse(aspects, weights), weights
