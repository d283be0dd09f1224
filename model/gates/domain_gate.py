"""The row's domain decides."""

from typing import Literal

import torch
from torch import Tensor, nn

from ...data.settings_base import Strict
from ..layers.axes import Axis, declare, linear
from .weighted_sum import fuse, masked_softmax


class DomainGate(Strict):
    """The row's domain attends over the aspects."""

    kind: Literal["domain_gate"] = "domain_gate"

    def build(self, width: int, aspects: Axis) -> nn.Module:
        """The module; arguments as in `gates`."""
        return DomainAttention(width, aspects)


class DomainAttention(nn.Module):
    """The row's domain d decides, softmax_a(e_dᵀ W h_a / √D + b_a).

    W is the entity's own; the bias b_a, which the paper's description does not have, lets a whole aspect weigh more.
    """

    def __init__(self, width: int, aspects: Axis):
        super().__init__()
        self.key = linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(aspects.size))
        declare(self, {"bias": (aspects,)})

    def forward(self, aspects: Tensor, present: Tensor, domains: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        weights = masked_softmax(self.scores(aspects, domains), present)
        return fuse(aspects, weights), weights

    def scores(self, aspects: Tensor, domains: Tensor) -> Tensor:
        """``[B, A]`` before the softmax."""
        queries = domains @ self.key.weight
        return (aspects * queries.unsqueeze(1)).sum(-1) * queries.shape[1] ** -0.5 + self.bias
