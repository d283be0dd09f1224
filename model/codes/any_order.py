"""Codes in any order: each is predicted from the state and whichever others are known."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...data.errors import UserError
from ...data.settings_base import Positive, Share, Strict
from .autoregressive import Cache
from .decoder_block import DecoderBlock
from .place_per_level import PlacePerLevel

_LEVELS = 5  # each of their orders has a tree of its own, and of five there are 120


class AnyOrder(Strict):
    """Codes in any order, each given those that are known; a user's surest first, along several orders whose probabilities are averaged (REG4Rec, Xing et al., 2025)."""

    kind: Literal["any_order"] = "any_order"
    layers: Annotated[Positive, Field(description="blocks of attention over the codes that are known")] = 1
    heads: Annotated[Positive, Field(description="heads of each; divides model.width")] = 2
    dropout: Annotated[Share, Field(description="dropout inside the blocks")] = 0.2
    paths: Annotated[
        Positive,
        Field(description="orders in which a user's codes are found, each beginning with another one; levels at most"),
    ] = 2
    beam: Annotated[
        Positive, Field(description="beginnings of codes that are followed along each, as of autoregressive")
    ] = 50

    def build(self, sizes: Sequence[int], width: int, shared: bool = False) -> nn.Module:
        """The module; arguments as of `Autoregressive.build`.

        Raises:
            UserError: there are fewer levels than paths, or more than five.
        """
        at, levels = "model.next_item.decoder", len(sizes)
        if levels > _LEVELS:
            what = f"is any_order, and items have {levels} codes, which have too many orders"
            raise UserError(at, what, f"Take codes of {_LEVELS} levels at most, or the decoder parallel.")
        if self.paths > levels:
            raise UserError(
                f"{at}.paths", f"is {self.paths}, and items have {levels} codes", f"Give {levels} or fewer."
            )
        return AnyOrderDecoder(sizes, width, self)


class AnyOrderDecoder(PlacePerLevel):
    """A small transformer over M places: of a code that is known its embedding, of one that is not the state.

    In training each state goes along one random order, and all levels that are not known are predicted at each step of it: an estimate of the mean
    over all orders (Uria et al., 2014). Predicting at one random step alone learns from too little: on Amazon Office it took twice the epochs.

    Attributes:
        beam: beginnings of codes that a search follows along each order, at least.
        paths: orders that a user's codes are found in.
    """

    def __init__(self, sizes: Sequence[int], width: int, settings: AnyOrder):
        blocks = (DecoderBlock(width, settings.heads, settings.dropout, causal=False) for _ in range(settings.layers))
        super().__init__(sizes, width, blocks)
        self.beam, self.paths = settings.beam, settings.paths

    def losses(self, states: Tensor, codes: Tensor, smoothing: float, embeddings: Tensor | None = None) -> Tensor:
        """As of `Decoder`, along one order that is drawn for each state: the mean over its steps, and in each over the levels that are not known."""
        place = torch.rand(codes.shape, device=codes.device).argsort(1)
        levels, total = len(self.sizes), states.new_zeros(len(states), dtype=torch.float32)
        for many in range(levels):
            known = place < many
            seen = self.seen(states, codes, known)
            for level in range(levels):
                found = self.log_probabilities(seen[:, level], level)
                own = -found.gather(1, codes[:, level, None])[:, 0]
                own = (1 - smoothing) * own - smoothing * found.mean(1) if smoothing else own
                total = total + own * ~known[:, level] / (levels - many)
        return total / levels

    def of_user(self, states: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """As of `Decoder`: the state, with which a search begins."""
        return states

    def orders(self, states: Tensor) -> Tensor:
        """``[S, P, M]`` int64: in which order codes are found. The first begins with the level that is surest, of the least entropy, before any code
        is known, and goes on by entropy; the next begins with the second surest, and so on. Nothing is dropped, in training neither."""
        codes = torch.zeros(len(states), len(self.sizes), dtype=torch.int64, device=states.device)
        training = self.training
        with torch.no_grad():
            seen = self.eval().seen(states, codes, torch.zeros_like(codes, dtype=torch.bool))
            logs = [self.log_probabilities(seen[:, level], level) for level in range(len(self.sizes))]
        self.train(training)
        surest = torch.stack([-(of.exp() * of).sum(1) for of in logs], 1).sort(dim=1, stable=True).indices
        of_path = [[path, *(at for at in range(len(self.sizes)) if at != path)] for path in range(self.paths)]
        return surest[:, torch.tensor(of_path, device=states.device)]

    def scores(self, states: Tensor, codes: Tensor) -> Tensor:
        """As of `scores_along`, along each state's own orders."""
        return self.scores_along(states, codes, self.orders(states))

    def scores_along(self, states: Tensor, codes: Tensor, orders: Tensor) -> Tensor:
        """``[S]`` float32: of items' codes ``[S, M]`` int64, each by the state ``[S, D]`` and the orders ``[S, P, M]`` beside it, the logarithm of the mean over orders of their probabilities."""
        paths = []
        for path in range(self.paths):
            known = torch.zeros_like(codes, dtype=torch.bool)
            total = states.new_zeros(len(states), dtype=torch.float32)
            for level in orders[:, path].T:
                found = self._own(self.seen(states, codes, known), codes)
                total = total + found.gather(1, level[:, None])[:, 0]
                known = known.scatter(1, level[:, None], True)
            paths.append(total)
        return torch.stack(paths).logsumexp(0) - math.log(self.paths)

    def group_scores(self, states: Tensor, codes: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """As of `Decoder`: all items of a row along the row's orders."""
        rows, many, levels = codes.shape
        states, orders = (of.repeat_interleave(many, 0) for of in (states, self.orders(states)))
        return self.scores_along(states, codes.view(-1, levels), orders).view(rows, many)

    def _own(self, seen: Tensor, codes: Tensor) -> Tensor:
        """``[S, M]`` float32 log-probabilities of each level's code."""
        levels = range(len(self.sizes))
        return torch.stack(
            [self.log_probabilities(seen[:, at], at).gather(1, codes[:, at, None])[:, 0] for at in levels], 1
        )

    def seen(self, states: Tensor, codes: Tensor, known: Tensor) -> Tensor:
        """``[S, M, D]``: the places after the blocks, of which those that are ``known [S, M]`` bool show their codes."""
        shown = self.codes.weight[codes + self.codes.starts]
        x = torch.where(known[..., None], shown, states[:, None].to(shown.dtype)) + self.levels
        for block in self.blocks:
            x, _ = block(x, None)
        return x


class InOrder:
    """A decoder that finds codes in one order, as `beam_search` goes along it."""

    def __init__(self, decoder: AnyOrderDecoder, order: Sequence[int]):
        """Args: the decoder, and the levels, the one that is found first before the others."""
        self._decoder, self._order = decoder, list(order)

    def begin(self, states: Tensor) -> tuple[Tensor, Cache]:
        """Log-probabilities ``[N, V]`` of the first level given states ``[N, D]``, and what `follow` goes on from."""
        return self._next(states, torch.zeros(len(states), 0, dtype=torch.int64, device=states.device))

    def follow(self, level: int, codes: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """As of `Steps`: of the level-th in order, given the codes ``[N]`` int64 of the one before it."""
        states, before = cache[0]
        return self._next(states, torch.cat([before, codes[:, None]], 1))

    def _next(self, states: Tensor, before: Tensor) -> tuple[Tensor, Cache]:
        order, depth = torch.tensor(self._order, device=states.device), before.shape[1]
        codes = torch.zeros(len(states), len(self._order), dtype=torch.int64, device=states.device)
        codes[:, order[:depth]] = before
        known = torch.zeros_like(codes, dtype=torch.bool)
        known[:, order[:depth]] = True
        seen = self._decoder.seen(states, codes, known)
        level = self._order[depth]
        return self._decoder.log_probabilities(seen[:, level], level), [(states, before)]
