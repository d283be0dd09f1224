"""DIN: each past item weighs what it has to do with the item at hand (Zhou et al., 2018)."""

import torch
from torch import Tensor, nn

from .sequence import Sequence


class Din(nn.Module):
    """A small network looks at past item, item at hand, their difference and product, and gives the past item's weight.

    As in the paper, weights are no softmax: how strong the interest is stays in their sum. They are scaled by the root of the
    number of items, which keeps long histories in the range of short ones.
    """

    def __init__(self, width: int):
        super().__init__()
        self.weigh = nn.Sequential(nn.Linear(4 * width, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, sequence: Sequence, candidate: Tensor) -> Tensor:
        """``candidate [B, D]`` -> ``[B, D]``; zeros for a row without past items."""
        items, at_hand = sequence.items, candidate.index_select(0, sequence.row)
        weights = self.weigh(torch.cat([items, at_hand, items - at_hand, items * at_hand], 1)).float()
        return sequence.mean(weights * items) * sequence.lengths.sqrt().unsqueeze(1)
