"""All codes at once: each level is predicted by itself, so that the score of any item is a sum of M numbers."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...data.settings_base import Strict
from ..layers.axes import declare, named
from .code_aspect import code_names
from .decoder import Others

_LOWEST = -1e9  # finite, so that a softmax over none has a gradient


class Parallel(Strict):
    """All codes at once, in no order (RPG, Hou et al., 2025): exact over all items."""

    kind: Literal["parallel"] = "parallel"
    temperature: float = Field(default=0.07, gt=0, le=10, description="of the softmax over cosines of states and codes")

    def build(self, sizes: Sequence[int], width: int, shared: bool = False) -> nn.Module:
        """The module: how many values each level has, D, and whether embeddings are given to it."""
        return ParallelDecoder(sizes, width, self.temperature, shared)


class ParallelDecoder(nn.Module):
    """A projection of the state for each level, and its cosines with that level's codes.

    The projection is a step away from the state itself, and begins as none: at first levels look for the state. Where codes are an
    aspect of items, the embeddings are the aspect's: states are made of them, and an item that shares codes with past ones is near
    from the start.

    Attributes:
        codes: ``[V of all levels, D]``; None where embeddings are given.
    """

    at: Tensor
    there: Tensor
    codes: nn.Parameter | None

    def __init__(self, sizes: Sequence[int], width: int, temperature: float, shared: bool = False):
        super().__init__()
        self.sizes, self.temperature = tuple(sizes), temperature
        levels = named("level", map(str, range(len(sizes))))
        self.project = nn.Parameter(torch.zeros(len(sizes), width, width))
        self.bias = nn.Parameter(torch.zeros(len(sizes), 1, width))
        declare(self, {"project": (levels, "in", "width"), "bias": (levels, "one", "width")})
        self.codes = None if shared else nn.Parameter(torch.randn(sum(sizes), width) * width**-0.5)
        if not shared:
            declare(self, {"codes": (named("code", code_names(sizes)), "width")})
        # Levels of several sizes, as wide as the widest.
        place = torch.arange(max(sizes)).expand(len(sizes), -1)
        begin = torch.tensor([0, *sizes[:-1]]).cumsum(0)[:, None]
        there = place < torch.tensor(sizes)[:, None]
        self.register_buffer("at", torch.where(there, begin + place, 0), persistent=False)
        self.register_buffer("there", there, persistent=False)

    def forward(self, states: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """``[M, S, V]`` float32 log-probabilities of states ``[S, D]``; minus infinity beyond a level's values."""
        logits = self._logits(states, embeddings)
        if not all(size == self.sizes[0] for size in self.sizes):
            logits = logits.masked_fill(~self.there[:, None], float("-inf"))
        return logits.log_softmax(2)

    def _logits(self, states: Tensor, embeddings: Tensor | None) -> Tensor:
        """``[M, S, V]`` float32, of which those beyond a level's values mean nothing."""
        of_codes = self.codes if embeddings is None else embeddings
        assert of_codes is not None
        seen = F.silu(torch.baddbmm(self.bias, states.expand(len(self.sizes), -1, -1), self.project)) + states
        seen, codes = F.normalize(seen.float(), dim=2), F.normalize(of_codes, dim=1)[self.at]
        return torch.bmm(seen, codes.transpose(1, 2)).float() / self.temperature

    def losses(self, states: Tensor, codes: Tensor, smoothing: float, embeddings: Tensor | None = None) -> Tensor:
        """As of `Decoder`."""
        found = self(states, embeddings)
        own = -found.gather(2, codes.T[..., None])[..., 0]
        if smoothing:
            evenly = found.masked_fill(~self.there[:, None], 0).sum(2) / self.there.sum(1, keepdim=True)
            own = (1 - smoothing) * own - smoothing * evenly
        return own.mean(0)

    def losses_among(
        self, states: Tensor, codes: Tensor, others: Others, smoothing: float, embeddings: Tensor | None = None
    ) -> Tensor:
        """``[S]`` float32 cross entropies of whole items, told from K others; arguments as of `losses`.

        The score of an item is the sum of its levels' logits over the root of their number: in the order of `summed`.
        """
        levels, scale = len(self.sizes), len(self.sizes) ** -0.5
        logits = self._logits(states, embeddings).transpose(1, 2).flatten(0, 1) * scale  # [M V, S]: rows are added up
        begin = self.there.shape[1] * torch.arange(levels, device=codes.device)
        own = logits.gather(0, (codes + begin).T).sum(0)
        scores = F.embedding_bag(others.codes + begin, logits, mode="sum").T
        same = torch.ones_like(scores, dtype=torch.bool)
        for level in range(levels):
            same &= codes[:, level, None] == others.codes[:, level]
        # An item that is what shall be found, or has its codes, is no other.
        none = same | (others.weights == 0)
        told = torch.logaddexp(own, (scores + others.weights.log()).masked_fill(none, _LOWEST).logsumexp(1))
        if not smoothing:
            return told - own
        # Evenly over items, not over draws: what was drawn often for being popular weighs as little here as in the softmax.
        weights = others.weights.expand_as(none).masked_fill(none, 0)
        many = weights.sum(1)
        evenly = torch.where(many > 0, (scores * weights).sum(1) / many.clamp_min(1e-9), own)
        return told - (1 - smoothing) * own - smoothing * evenly

    def group_scores(self, states: Tensor, codes: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """As of `Decoder`."""
        starts = torch.tensor([0, *self.sizes[:-1]], device=codes.device).cumsum(0)
        users = self.of_user(states, embeddings)
        return users.gather(1, (codes + starts).flatten(1)).view(codes.shape).sum(2)

    def of_user(self, states: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """As of `Decoder`: log-probabilities of all values of all levels, one level after the other."""
        found = self(states, embeddings)
        return torch.cat([of[:, :size] for of, size in zip(found, self.sizes, strict=True)], 1)


def summed(users: Tensor, codes: Tensor) -> Tensor:
    """``[B, C]`` scores: of users as of `ParallelDecoder.of_user`, the sum of log-probabilities of the codes of each of C items.

    Args:
        users: ``[B, U]``.
        codes: ``[M, C]`` int32 or int64 places in these.
    """
    # Level by level and always in that order: items of equal codes score alike, to the bit.
    scores = users.index_select(1, codes[0])
    for of_level in codes[1:]:
        scores += users.index_select(1, of_level)
    return scores
