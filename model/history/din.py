"""DIN: each past item weighs what it has to do with the item at hand (Zhou et al., 2018)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...data.settings_base import Strict
from ..layers.axes import declare, linear
from .sequence import PastFeatures, Sequence
from .time_bias import BUCKETS, SeesTimes, bucket


class DIN(Strict):
    """Each past item is weighted by what it has to do with the candidate item (Zhou et al., 2018)."""

    encoder: Literal["din"] = "din"
    features: PastFeatures = ()
    decoupled: bool = Field(default=False, description="ids have a second table, for attention alone (DARE)")
    time_bias: SeesTimes = False

    def build(self, width: int, past: int, mask_share: float) -> nn.Module:
        """The module; arguments as in `history`."""
        return DinEncoder(width, self.time_bias)


class DinEncoder(nn.Module):
    """A small network looks at past item, item at hand, their difference and product, and gives the past item's weight.

    As in the paper, weights are no softmax: how strong the interest is stays in their sum. They are scaled by the root of the
    number of items, which keeps long histories in the range of short ones. With ``time_bias`` the network is also told how long
    ago an item was.

    Where ids have a second table for attention (DARE, Feng et al., 2024), weights come from that and what is summed from the first:
    what is alike enough to look at need not be of one taste.
    """

    def __init__(self, width: int, time_bias: bool = False):
        super().__init__()
        self.look, self.weigh = linear(4 * width, width), nn.Sequential(nn.SiLU(), linear(width, 1))
        self.time_bias = nn.Parameter(torch.randn(BUCKETS, width) * 0.02) if time_bias else None
        declare(self, {"time_bias": ("bucket", "out")})

    def forward(self, sequence: Sequence, candidate: Tensor) -> Tensor:
        """``candidate [B, D]`` -> ``[B, D]``; zeros for a row without past items."""
        items, at_hand = sequence.attention or (sequence.items, candidate)
        at_hand = at_hand.index_select(0, sequence.row)
        seen = self.look(torch.cat([items, at_hand, items - at_hand, items * at_hand], 1))
        if self.time_bias is not None:
            seen = seen + self.time_bias.index_select(0, bucket(sequence.ages))
        weights = self.weigh(seen).float()
        return sequence.mean(weights * sequence.items) * sequence.lengths.sqrt().unsqueeze(1)
