"""Self-attention over the past: its blocks, stacks of them, and the state after those that are causal."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...data.settings_base import Positive, Share
from ..layers.axes import declare, layer_norm, linear, named
from .reasoning import NOISE, Reasoning
from .sequence import RowGroup, Sequence, ToFind, join_heads, split_heads
from .time_bias import TimeBias

# Settings of the encoders that are stacks of blocks.
Blocks = Annotated[Positive, Field(description="blocks of attention")]
AttentionHeads = Annotated[Positive, Field(description="heads of each; divides model.width")]
BlockDropout = Annotated[Share, Field(description="dropout inside the blocks and on their input")]


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind its norm and on top of a residual.

    Norms come first, as in eSASRec (2025); the paper of SASRec has them so, that of BERT4Rec after the residual. Values and
    outputs start as the identity: attention is a mean of items at first, from which a state, above all a mask's, which has no
    item of its own, learns faster than from projections at random.
    """

    def __init__(self, width: int, heads: int, dropout: float, causal: bool, time_bias: bool = False):
        super().__init__()
        self.time_bias = TimeBias(heads, causal) if time_bias else None
        self.heads, self.causal = heads, causal
        self.norm, self.forward_norm = layer_norm(width), layer_norm(width)
        self.inputs, self.outputs = linear(width, 3 * width), linear(width, width)
        self.wide, self.narrow = linear(width, 4 * width), linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.eye_(self.inputs.weight.data[2 * width :])
        nn.init.eye_(self.outputs.weight.data)

    def forward(self, sequence: Sequence, x: Tensor) -> Tensor:
        """``[N, D]`` -> ``[N, D]``."""
        x = x + self.dropout(
            self.outputs(sequence.over_groups(self.inputs(self.norm(x)), partial(self._attend, sequence.ages)))
        )
        return x + self.dropout(self.narrow(self.dropout(F.gelu(self.wide(self.forward_norm(x))))))

    def _attend(self, ages: Tensor, group: RowGroup, x: Tensor) -> Tensor:
        """``[R, T, 3 D]`` -> ``[R, T, D]``."""
        queries, keys, values = split_heads(x, self.heads)
        places = torch.arange(group.longest, device=x.device)
        mask = None
        if not self.causal:  # causal queries see nothing behind their row's items, where the padding is
            mask = (places < group.lengths[:, None])[:, None, None]
        if self.time_bias is None:
            return join_heads(F.scaled_dot_product_attention(queries, keys, values, mask, is_causal=self.causal))
        seen = places <= places[:, None] if mask is None else mask
        scores = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5 + self.time_bias(group, ages)
        return join_heads(scores.masked_fill(~seen, float("-inf")).softmax(-1).to(values.dtype) @ values)


class Stack(nn.Module):
    """Positions counted from the newest item, blocks, and a norm.

    Args:
        width: D.
        positions: most items a row has.
        blocks: each called with the sequence and ``[N, D]``, and gives ``[N, D]``.
        dropout: of what goes in.
    """

    def __init__(self, width: int, positions: int, blocks: Iterable[nn.Module], dropout: float):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(positions, width) * 0.1)
        # Counted from the newest, which every model has: one that looks further back has more of them.
        declare(self, {"positions": (named("position", map(str, range(positions))), "width")})
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.dropout = layer_norm(width), nn.Dropout(dropout)

    def forward(self, sequence: Sequence) -> Tensor:
        """``[N, D]``: what each item says, seen together with those that it may see."""
        return self.through(self.placed(sequence))

    def placed(self, sequence: Sequence) -> Sequence:
        """With the positions of past items added: what the blocks take in. Places of a prefix have kinds in place of positions."""
        positions, at = self.positions, sequence.back
        if sequence.in_prefix is not None:
            positions, at = F.pad(positions, (0, 0, 0, 1)), torch.where(sequence.in_prefix, len(positions), at)
        return replace(sequence, items=self.dropout(sequence.items + positions.index_select(0, at)))

    def through(self, placed: Sequence) -> Tensor:
        """``[N, D]``: the blocks and the norm."""
        x = placed.items
        for block in self.blocks:
            x = block(placed, x)
        return self.norm(x)


class Causal(nn.Module):
    """The newest item's state, after blocks in which an item sees only those before it: SASRec's, HSTU's."""

    def __init__(self, stack: Stack, reasoning: Reasoning | None = None):
        super().__init__()
        self.stack, self.reasoning = stack, reasoning

    def forward(self, sequence: Sequence, candidate: Tensor | None = None) -> Tensor:
        """``[B, D]``; zeros for a row without past items."""
        placed = self.stack.placed(sequence)
        states = self.stack.through(placed)
        if self.reasoning is None:
            return sequence.newest(states)
        return self.reasoning.one(self.reasoning.think(placed, states, self.stack.through))

    def to_find(self, sequence: Sequence, every: bool) -> ToFind:
        """States, and what comes after each; behind them those of the reasoning steps, which all find the row's own item."""
        placed = self.stack.placed(sequence)
        states = self.stack.through(placed)
        target, owns = following(sequence), own(sequence)
        reasoning = self.reasoning
        if reasoning is None:
            return ToFind(states, target) if every else ToFind(sequence.newest(states), owns)
        steps = noised = reasoning.think(placed, states, self.stack.through)
        if reasoning.config.learning == "progressive":
            noised = reasoning.think(placed, states, self.stack.through, NOISE)
        learning = reasoning.scaled(steps)
        states, target = (states, target) if every else (learning[0], owns)
        return ToFind(
            torch.cat([states, learning[1:].flatten(0, 1)]),
            torch.cat([target, owns.repeat(len(steps) - 1)]),
            len(steps) - 1,
            lambda pools, weights, scale: reasoning.beside(steps * scale, noised, pools, weights),
        )


def own(sequence: Sequence) -> Tensor:
    """``[B]``: the rows' own items, which come behind all past ones; -1 for a row in which nothing is before it."""
    at = sequence.past_items + torch.arange(sequence.rows, device=sequence.row.device)
    return torch.where(sequence.lengths > 0, at, -1)


def following(sequence: Sequence) -> Tensor:
    """``[N]``: what comes after each place, another past item or the row's own, which are behind all past ones.

    A place of a prefix finds the row's own item where the row has no past item, and nothing otherwise: of an oldest item nothing is known but the
    prefix, which may be made of it.
    """
    at = torch.arange(len(sequence.row), device=sequence.row.device)
    if sequence.in_prefix is not None:
        at = torch.where(sequence.in_prefix, -2, (~sequence.in_prefix).cumsum(0) - 1)
    return torch.where(sequence.back > 0, at + 1, sequence.past_items + sequence.row)
