"""Aspect gating: several views of one entity become one vector.

After the description of "An Unified Search and Recommendation Foundation Model for Cold-Start Scenario" (CIKM 2023);
the formulas are this project's reconstruction. Every gate maps

    aspects  [B, A, D] float32, anything finite where an aspect is missing
    present  [B, A] bool
    domains  [B, D] float32, the embedding of each row's domain
    counts   [B] float32, how often the entity's id was seen in training; 0 where it never was or has none

to ``(fused [B, D], weights [B, A])``, where ``fused`` is the weighted sum of the aspects. The weights of a row are a
softmax over its present aspects; a missing aspect has weight exactly 0, and a row without any has all weights and
``fused`` 0. Call them outside autocast: they are a rounding error of the cost, and a softmax deserves float32.
"""

import torch
from torch import Tensor, nn

from ..layers.axes import Axis, declare, linear


def masked_softmax(scores: Tensor, present: Tensor) -> Tensor:
    """Softmax over the last axis among ``present``; 0 elsewhere, and all 0 where nothing is present.

    Args:
        scores: ``[B, A]`` float32.
        present: ``[B, A]`` bool.
    """
    # The lowest finite number, not -inf: a row of -inf alone would be NaN, and so would its gradient.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~present, lowest).softmax(-1) * present


def fuse(aspects: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of the aspects: ``[B, A, D]``, ``[B, A]`` -> ``[B, D]``."""
    return (aspects * weights.unsqueeze(-1)).sum(1)


class UniformGate(nn.Module):
    """`mean`: all present aspects weigh the same. No parameters."""

    def forward(self, aspects: Tensor, present: Tensor, domains: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        weights = present / present.sum(1, keepdim=True).clamp_min(1)
        return fuse(aspects, weights), weights


class MeanGate(nn.Module):
    """`mean_gate`: the mean of the present aspects decides, through one linear layer."""

    def __init__(self, width: int, aspects: Axis):
        super().__init__()
        self.score = linear(width, aspects)

    def forward(self, aspects: Tensor, present: Tensor, domains: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        uniform = present / present.sum(1, keepdim=True).clamp_min(1)
        weights = masked_softmax(self.score(fuse(aspects, uniform)), present)
        return fuse(aspects, weights), weights


class ClsGate(nn.Module):
    """`cls_gate`: a learned CLS vector c attends over the aspects, softmax_a(cᵀ K h_a / √D)."""

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


class DomainGate(nn.Module):
    """`domain_gate`: the row's domain d decides, softmax_a(e_dᵀ W h_a / √D + b_a).

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


class DomainCountGate(DomainGate):
    """`domain_count_gate`: as `domain_gate`, with c_a log(1 + n) added to each score, n the count of the id.

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


def make_gate(kind: str, width: int, aspects: Axis) -> nn.Module:
    """The gate called ``kind`` in the experiment, for ``aspects`` vectors of ``width``; one aspect needs no choosing."""
    if kind == "mean" or aspects.size == 1:
        return UniformGate()
    if kind == "mean_gate":
        return MeanGate(width, aspects)
    if kind == "cls_gate":
        return ClsGate(width)
    return (DomainCountGate if kind == "domain_count_gate" else DomainGate)(width, aspects)
