"""A feed-forward layer of several experts, of which each place goes through some."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.axes import declare, linear, named

_BALANCE = 0.01


class Experts(nn.Module):
    """E feed-forward layers, of which each place goes through the ``used`` likeliest by a router, weighed by their softmax (Shazeer et
    al., 2017; OneRec, Deng et al., 2025).

    Which ones depends on the place alone, not on what else is in the batch: there is no limit to how many places one has.

    Attributes:
        imbalance: of the last places in training, a scalar: the Switch loss (Fedus et al., 2021), ``_BALANCE`` where all experts are used alike;
            zero otherwise.
    """

    def __init__(self, width: int, experts: int, used: int, dropout: float):
        super().__init__()
        self.used, self.dropout = used, dropout
        every = named("expert", map(str, range(experts)))
        self.router = linear(width, every, bias=False)
        scale = width**-0.5
        self.wide = nn.Parameter((torch.rand(experts, width, 4 * width) * 2 - 1) * scale)
        self.wide_bias = nn.Parameter((torch.rand(experts, 4 * width) * 2 - 1) * scale)
        self.narrow = nn.Parameter((torch.rand(experts, 4 * width, width) * 2 - 1) * scale / 2)
        self.narrow_bias = nn.Parameter((torch.rand(experts, width) * 2 - 1) * scale / 2)
        declare(self, {"wide": (every, "in", "out"), "wide_bias": (every, "out")})
        declare(self, {"narrow": (every, "in", "out"), "narrow_bias": (every, "out")})
        self.imbalance = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        """``[N, T, D]`` -> ``[N, T, D]``."""
        places = x.flatten(0, 1)
        with torch.autocast(x.device.type, enabled=False):
            share = F.linear(places.float(), self.router.weight).softmax(1)
        weights, chosen = share.topk(self.used, 1)
        weights = weights / weights.sum(1, keepdim=True)
        out = torch.zeros_like(places)
        for expert in range(share.shape[1]):
            at, which = (chosen == expert).nonzero(as_tuple=True)
            inner = F.gelu(F.linear(places[at], self.wide[expert].T, self.wide_bias[expert]))
            inner = F.dropout(inner, self.dropout, self.training)
            found = F.linear(inner, self.narrow[expert].T, self.narrow_bias[expert])
            out = out.index_add(0, at, (found * weights[at, which, None]).to(out.dtype))
        self.imbalance = self._imbalance(share, chosen) if self.training else share.new_zeros(())
        return out.view(x.shape)

    def _imbalance(self, share: Tensor, chosen: Tensor) -> Tensor:
        many = share.shape[1]
        if not len(share):
            return share.sum()
        taken = torch.bincount(chosen.flatten(), minlength=many) / chosen.numel()
        return _BALANCE * many * (taken * share.mean(0)).sum()
