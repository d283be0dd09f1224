"""A block of the decoders that look at the codes so far."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.axes import layer_norm, linear
from .experts import Experts


class DecoderBlock(nn.Module):
    """Attention and a feed-forward layer, each behind its norm and on top of a residual.

    Args:
        width: D.
        heads: of the attention.
        dropout: inside the block.
        experts: feed-forward layers.
        used: of which each place goes through so many.
        causal: whether a place sees those before it alone.
    """

    def __init__(self, width: int, heads: int, dropout: float, experts: int = 1, used: int = 1, causal: bool = True):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm, self.forward_norm = layer_norm(width), layer_norm(width)
        self.inputs, self.outputs = linear(width, 3 * width), linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.experts = Experts(width, experts, used, dropout) if experts > 1 else None
        if self.experts is None:
            self.wide, self.narrow = linear(width, 4 * width), linear(4 * width, width)

    def forward(self, x: Tensor, before: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """``[N, T, D]`` of places one after the other, ``before`` which there may be others -> ``[N, T, D]``; and the keys and values
        of all places, those before included."""
        rows, places, width = x.shape
        of_heads = (
            self.inputs(self.norm(x)).view(rows, places, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        queries, keys, values = of_heads.unbind(0)
        if before is not None:
            keys, values = torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)
        # A single place sees all that were there before it.
        seen = F.scaled_dot_product_attention(queries, keys, values, is_causal=self.causal and places > 1)
        x = x + self.dropout(self.outputs(seen.transpose(1, 2).reshape(rows, places, width)))
        return x + self.dropout(self._forward(self.forward_norm(x))), (keys, values)

    def imbalance(self) -> Tensor | float:
        """As of `Experts`; asked for once, so that no step's graph is held."""
        if self.experts is None:
            return 0.0
        found = self.experts.imbalance
        self.experts.imbalance = found.detach()
        return found

    def _forward(self, x: Tensor) -> Tensor:
        if self.experts is not None:
            return self.experts(x)
        return self.narrow(self.dropout(F.gelu(self.wide(x))))
