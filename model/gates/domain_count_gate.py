"""The row's domain and the count of its id decide."""

from typing import Literal

import torch
from torch import Tensor, nn

from ...data.settings_base import Strict
from ..layers.axes import Axis, declare
from .domain_gate import DomainAttention
from .weighted_sum import fuse, masked_softmax


class DomainCountGate(Strict):
    """As domain_gate, and how often the id was seen in training counts."""

    kind: Literal["domain_count_gate"] = "domain_count_gate"

    def build(self, width: int, aspects: Axis) -> nn.Module:
        """The module; arguments as in `gates`."""
        return DomainCountAttention(width, aspects)


class DomainCountAttention(DomainAttention):
    """As `DomainAttention`, with c_a log(1 + n) added to each score, n the count of the id.

    Beyond the paper: an id that training hardly saw hands its weight to the text. Two numbers of the row decide, its domain
    and its count; c_a starts at zero, where it is the domain gate.
    """

    def __init__(self, width: int, aspects: Axis):
        super().__init__(width, aspects)
        self.count_weight = nn.Parameter(torch.zeros(aspects.size))
        declare(self, {"count_weight": (aspects,)})

    def forward(self, aspects: Tensor, present: Tensor, domains: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.scores(aspects, domains) + torch.log1p(counts).unsqueeze(1) * self.count_weight
        weights = masked_softmax(scores, present)
        return fuse(aspects, weights), weights
