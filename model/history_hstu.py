"""HSTU: pointwise aggregated attention without a softmax (Zhai et al., 2024)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .sequence import RowGroup, Sequence, join_heads, split_heads


class HstuLayer(nn.Module):
    """One layer: SiLU attention with a bias per distance, its result normalised and gated, on top of a residual."""

    def __init__(self, width: int, past: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.past = heads, past
        self.norm, self.attended_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inputs, self.outputs = nn.Linear(width, 4 * width), nn.Linear(width, width)
        self.distances = nn.Parameter(torch.randn(past) * 0.02)
        self.dropout = nn.Dropout(dropout)

    def forward(self, sequence: Sequence, x: Tensor) -> Tensor:
        """``[N, D]`` -> ``[N, D]``."""
        width = x.shape[1]
        gate, rest = F.silu(self.inputs(self.norm(x))).split([width, 3 * width], 1)
        attended = sequence.over_groups(rest, self._attend)
        return x + self.outputs(self.dropout(self.attended_norm(attended) * gate))

    def _attend(self, group: RowGroup, x: Tensor) -> Tensor:
        """``[R, T, 3 D]`` -> ``[R, T, D]``."""
        return join_heads(hstu_attention(*split_heads(x, self.heads), self.distances, self.past))


def hstu_attention(queries: Tensor, keys: Tensor, values: Tensor, distances: Tensor, past: int) -> Tensor:
    """Each item takes of those before it and of itself, silu(q k + bias of their distance) / L.

    Args:
        queries, keys, values: ``[B, H, T, D / H]``; what is behind a row's items has no part in what they get.
        distances: ``[L]`` bias per distance, T <= L.
        past: L, which divides, so that a result does not depend on how long other rows are.

    Returns:
        ``[B, H, T, D / H]``.
    """
    places = torch.arange(queries.shape[2], device=queries.device)
    apart = places[:, None] - places
    scores = queries @ keys.transpose(-1, -2) + distances[apart.clamp_min(0)]
    return (F.silu(scores) * ((apart >= 0) / past)) @ values
