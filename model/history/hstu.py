"""HSTU: pointwise aggregated attention without a softmax (Zhai et al., 2024)."""

from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.settings_base import Strict
from ..layers.axes import declare, layer_norm, linear, named
from ..prefix.settings import PrefixDropout, Prefixed, prefix_without_effect
from .reasoning import Reasoning, Reasons
from .sequence import PastFeatures, RowGroup, Sequence, join_heads, split_heads
from .time_bias import SeesTimes, TimeBias
from .transformer import AttentionHeads, BlockDropout, Blocks, Causal, Stack


class HSTU(Strict):
    """Pointwise causal attention without a softmax (Zhai et al., 2024)."""

    encoder: Literal["hstu"] = "hstu"
    layers: Blocks = 2
    heads: AttentionHeads = 2
    dropout: BlockDropout = 0.2
    features: PastFeatures = ()
    prefix: Prefixed = ()
    prefix_dropout: PrefixDropout = 0.5
    reasoning: Reasons = None
    time_bias: SeesTimes = False

    finds_next: ClassVar[bool] = True

    def without_effect(self) -> dict[str, str]:
        return prefix_without_effect(self.prefix)

    def build(self, width: int, past: int, mask_share: float) -> nn.Module:
        """The module; arguments as in `history`."""
        reasoning = Reasoning(width, self.reasoning) if self.reasoning else None
        longest = past + (self.reasoning.steps * self.reasoning.block if self.reasoning else 0)
        before = len(self.prefix)
        blocks = [
            HstuLayer(width, longest, self.heads, self.dropout, self.time_bias, before) for _ in range(self.layers)
        ]
        return Causal(Stack(width, past, blocks, self.dropout), reasoning)


class HstuLayer(nn.Module):
    """One layer: SiLU attention with a bias per distance, its result normalised and gated, on top of a residual.

    ``before`` places of a prefix add distances, and do not change what attention is divided by: rows without them are as they were.
    """

    def __init__(self, width: int, past: int, heads: int, dropout: float, time_bias: bool = False, before: int = 0):
        super().__init__()
        self.time_bias = TimeBias(heads, causal=True) if time_bias else None
        self.heads, self.past = heads, past
        self.norm, self.attended_norm = layer_norm(width), layer_norm(width)
        self.inputs, self.outputs = linear(width, 4 * width), linear(width, width)
        self.distances = nn.Parameter(torch.randn(past + before) * 0.02)
        declare(self, {"distances": (named("distance", map(str, range(past + before))),)})
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequence: Sequence, x: Tensor) -> Tensor:
        """``[N, D]`` -> ``[N, D]``."""
        width = x.shape[1]
        gate, rest = F.silu(self.inputs(self.norm(x))).split([width, 3 * width], 1)
        attended = sequence.over_groups(rest, partial(self._attend, sequence.ages))
        return x + self.outputs(self.dropout(self.attended_norm(attended) * gate))

    def _attend(self, ages: Tensor, group: RowGroup, x: Tensor) -> Tensor:
        """``[R, T, 3 D]`` -> ``[R, T, D]``."""
        of_times = None if self.time_bias is None else self.time_bias(group, ages)
        return join_heads(hstu_attention(*split_heads(x, self.heads), self.distances, self.past, of_times))


def hstu_attention(
    queries: Tensor, keys: Tensor, values: Tensor, distances: Tensor, past: int, of_times: Tensor | None = None
) -> Tensor:
    """Each item takes of those before it and of itself, silu(q k + bias of their distance and of their times) / L.

    Args:
        queries, keys, values: ``[B, H, T, D / H]``; what is behind a row's items has no part in what they get.
        distances: bias per distance, as many as T or more.
        past: L, which divides, so that a result does not depend on how long other rows are.
        of_times: ``[B, H, T, T]`` bias of intervals of time.

    Returns:
        ``[B, H, T, D / H]``.
    """
    places = torch.arange(queries.shape[2], device=queries.device)
    apart = places[:, None] - places
    scores = queries @ keys.transpose(-1, -2) + distances[apart.clamp_min(0)]
    if of_times is not None:
        scores = scores + of_times.to(scores.dtype)
    return (F.silu(scores) * ((apart >= 0) / past)) @ values
