"""Code after code: each level is predicted from the state and the codes before it."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ...data.settings_base import Positive, Share, Strict
from .decoder_block import DecoderBlock
from .place_per_level import PlacePerLevel

Cache = list[tuple[Tensor, Tensor]]
"""Of each block, keys and values ``[N, H, T, D / H]`` of the T places so far."""


class Autoregressive(Strict):
    """Code after code, each given those before it (TIGER, Rajput et al., 2023): found by a beam over the codes that items have."""

    kind: Literal["autoregressive"] = "autoregressive"
    layers: Annotated[Positive, Field(description="blocks of attention over the codes so far")] = 1
    heads: Annotated[Positive, Field(description="heads of each; divides model.width")] = 2
    dropout: Annotated[Share, Field(description="dropout inside the blocks")] = 0.2
    experts: Annotated[
        Positive, Field(description="feed-forward layers of each block, of which each place goes through the likeliest")
    ] = 1
    experts_used: Annotated[Positive, Field(description="how many of them that are")] = 2
    beam: Annotated[
        Positive,
        Field(
            description="beginnings of codes that are followed, three times as many of the first code; more where as many items are asked for"
        ),
    ] = 50

    @model_validator(mode="after")
    def _some_of_them(self):
        if 1 < self.experts < self.experts_used:
            raise ValueError(f"experts_used {self.experts_used} is more than experts {self.experts}")
        return self

    def without_effect(self) -> dict[str, str]:
        return {"experts_used": "experts: 2 or more"} if self.experts == 1 else {}

    def build(self, sizes: Sequence[int], width: int, shared: bool = False) -> nn.Module:
        """The module: how many values each level has, and D. Embeddings are its own, whether any are ``shared`` or not: those that
        states are made of teach it no better."""
        return AutoregressiveDecoder(sizes, width, self)


class AutoregressiveDecoder(PlacePerLevel):
    """A small causal transformer over the state and the codes before each level.

    Attributes:
        beam: beginnings of codes that a search follows, at least.
    """

    def __init__(self, sizes: Sequence[int], width: int, settings: Autoregressive):
        blocks = (
            DecoderBlock(width, settings.heads, settings.dropout, settings.experts, settings.experts_used)
            for _ in range(settings.layers)
        )
        super().__init__(sizes, width, blocks)
        self.beam = settings.beam

    def losses(self, states: Tensor, codes: Tensor, smoothing: float, embeddings: Tensor | None = None) -> Tensor:
        """As of `Decoder`, each level given the true codes before it; in training with what experts that are used unevenly add to
        each."""
        total = states.new_zeros(len(states), dtype=torch.float32)
        for level, found in enumerate(self._given(states, codes)):
            own = -found.gather(1, codes[:, level, None])[:, 0]
            total = total + ((1 - smoothing) * own - smoothing * found.mean(1) if smoothing else own)
        losses = total / len(self.sizes)
        for block in self.blocks:
            assert isinstance(block, DecoderBlock)
            losses = losses + block.imbalance()
        return losses

    def scores(self, states: Tensor, codes: Tensor) -> Tensor:
        """``[S]`` float32 log-probabilities of items' codes ``[S, M]`` int64, each by the state ``[S, D]`` beside it."""
        total = states.new_zeros(len(states), dtype=torch.float32)
        for level, found in enumerate(self._given(states, codes)):
            total = total + found.gather(1, codes[:, level, None])[:, 0]
        return total

    def group_scores(self, states: Tensor, codes: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """As of `Decoder`."""
        rows, many, levels = codes.shape
        return self.scores(states.repeat_interleave(many, 0), codes.view(-1, levels)).view(rows, many)

    def of_user(self, states: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """As of `Decoder`: the state, with which a search begins."""
        return states

    def begin(self, states: Tensor) -> tuple[Tensor, Cache]:
        """Log-probabilities ``[N, V]`` of the first level given states ``[N, D]``, and what `follow` goes on from."""
        return self._step(states[:, None] + self.levels[:1], [], 0)

    def follow(self, level: int, codes: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Log-probabilities ``[N, V]`` of a level from 1 on, given the codes ``[N]`` int64 of the one before it, and the cache of it."""
        embedded = self.codes.weight[codes + self.codes.starts[level - 1]]
        return self._step((embedded + self.levels[level])[:, None], cache, level)

    def _given(self, states: Tensor, codes: Tensor) -> list[Tensor]:
        """Of each level, log-probabilities ``[S, V]`` float32 given the state and true codes."""
        before = self.codes.weight[codes[:, :-1] + self.codes.starts[:-1]]
        x = torch.cat([states[:, None].to(before.dtype), before], 1) + self.levels
        for block in self.blocks:
            x, _ = block(x, None)
        return [self.log_probabilities(x[:, level], level) for level in range(len(self.sizes))]

    def _step(self, x: Tensor, cache: Cache, level: int) -> tuple[Tensor, Cache]:
        after: Cache = []
        for number, block in enumerate(self.blocks):
            x, kept = block(x, cache[number] if cache else None)
            after.append(kept)
        return self.log_probabilities(x[:, 0], level), after
