"""BERT4Rec: self-attention in both directions (Sun et al., 2019)."""

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ...data.settings_base import Strict
from ..layers.axes import declare
from .sequence import PastFeatures, Sequence, ToFind
from .time_bias import SeesTimes
from .transformer import AttentionHeads, Block, BlockDropout, Blocks, Stack


class BERT4Rec(Strict):
    """Bidirectional self-attention with a mask in the place of the next item (Sun et al., 2019)."""

    encoder: Literal["bert4rec"] = "bert4rec"
    layers: Blocks = 2
    heads: AttentionHeads = 2
    dropout: BlockDropout = 0.2
    features: PastFeatures = ()
    time_bias: SeesTimes = False

    finds_next: ClassVar[bool] = True

    def build(self, width: int, past: int, mask_share: float) -> nn.Module:
        """The module; arguments as in `history`."""
        blocks = (Block(width, self.heads, self.dropout, False, self.time_bias) for _ in range(self.layers))
        return Bert4RecEncoder(Stack(width, past + 1, blocks, self.dropout), width, mask_share)


class Bert4RecEncoder(nn.Module):
    """The state of a mask in the place of the next item, after self-attention in both directions.

    In training further items are masked at random and are to be found too (Cloze); that the last place is always among
    them is what BERT4Rec needs to be told to predict the future (Petrov & Macdonald, 2022).

    Args:
        stack: of blocks that are not causal, with a position more than rows have items.
        width: D.
        mask_share: of past items, in training.
    """

    def __init__(self, stack: Stack, width: int, mask_share: float):
        super().__init__()
        self.stack = stack
        self.mask = nn.Parameter(torch.randn(width) * 0.1)
        declare(self, {"mask": ("width",)})
        self.mask_share = mask_share

    def forward(self, sequence: Sequence, candidate: Tensor | None = None) -> Tensor:
        """``[B, D]``."""
        longer = sequence.with_one_more(self.mask)
        return longer.newest(self.stack(longer))

    def to_find(self, sequence: Sequence, every: bool) -> ToFind:
        """States of masks, and what they stand for."""
        at = torch.arange(len(sequence.row), device=sequence.row.device)
        owns = len(at) + torch.arange(sequence.rows, device=at.device)
        if not every:
            return ToFind(self(sequence), owns)
        hidden = torch.rand(len(at), device=at.device) < self.mask_share
        shown = torch.where(hidden[:, None], self.mask.to(sequence.items.dtype), sequence.items)
        longer = replace(sequence, items=shown).with_one_more(self.mask)
        states = self.stack(longer)
        found = torch.cat([states[at + sequence.row], longer.newest(states)])
        return ToFind(found, torch.cat([torch.where(hidden, at, -1), owns]))
