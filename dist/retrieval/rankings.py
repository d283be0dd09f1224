"""How users rank items: by products of vectors, or by codes; exactly, or as far as a beam reaches."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .products import NEVER, Products, best_of
from .search import Approximate, Exact, Search

Gone = tuple[Tensor, Tensor]
"""Row and position ``[G]`` int64 each, on the host, of items that are left out."""


class Placed(NamedTuple):
    """Where the rows' own items are among all, and which others are the best; on the host.

    Attributes:
        ranks: ``[B]`` int64, as of `ranks_of_scores`.
        own: ``[B]`` float32 scores of the rows' own items; minus infinity for one that ranks behind all.
        scores: ``[B, N]`` of the best others, the highest first; minus infinity: none.
        at: ``[B, N]`` int64 their positions.
    """

    ranks: Tensor
    own: Tensor
    scores: Tensor
    at: Tensor


class Ranking(Protocol):
    """An order of C items for each user. A user is what the model says of one, ``[B, U]`` float32."""

    def pairs(self, users: Tensor, at: Tensor) -> Tensor:
        """``[B, K]`` scores of the items at some positions ``[B, K]`` int64; equal items score alike."""
        ...

    def ranks(self, users: Tensor, target: Tensor, gone: Gone, barred: Tensor | None, drawn: Tensor | None) -> Tensor:
        """``[B]`` int64 on the host, as of `ranks_of_scores`."""
        ...

    def placed(self, users: Tensor, target: Tensor, gone: Gone, barred: Tensor | None, n: int) -> Placed:
        """Ranks among all, as of `ranks_of_scores`, and the n best others of those that take part."""
        ...

    def search(self, hidden: Tensor) -> Search:
        """Finds the best items, but those that are hidden, ``[C]`` bool."""
        ...


class Scores(Protocol):
    """Scores of all items, block after block: `Products`, or what else has its methods."""

    def __len__(self) -> int:
        """C."""
        ...

    @property
    def shared(self) -> int:
        """As of `Products`."""
        ...

    def of_shared(self, users: Tensor) -> Tensor:
        """``[B, S]``, as of `Products`."""
        ...

    def of(self, users: Tensor, of_shared: Tensor, part: slice = slice(None)) -> Tensor:
        """``[B, items of the part]``."""
        ...

    def pairs(self, users: Tensor, at: Tensor) -> Tensor:
        """``[B, K]`` of the items at ``[B, K]``."""
        ...


class Scored:
    """All items have scores."""

    def __init__(self, unknown: Tensor, hiding: Callable[[Tensor], Any]):
        """Args: ``[C]`` bool, items that nothing is known of; and what gives `Scores`, minus infinity for items that are hidden,
        ``[C]`` bool."""
        self.hiding, self.scores = hiding, hiding(unknown)

    def pairs(self, users: Tensor, at: Tensor) -> Tensor:
        """As of `Ranking`."""
        return self.scores.pairs(users, at)

    def ranks(self, users: Tensor, target: Tensor, gone: Gone, barred: Tensor | None, drawn: Tensor | None) -> Tensor:
        """As of `Ranking`."""
        scores = self.scores.of(users, self.scores.of_shared(users)).cpu()
        return ranks_of_scores(scores, target, gone, barred, drawn)

    def placed(self, users: Tensor, target: Tensor, gone: Gone, barred: Tensor | None, n: int) -> Placed:
        """As of `Ranking`."""
        scores, at = self.scores.of(users, self.scores.of_shared(users)).cpu(), target.clamp_min(0)[:, None]
        own = scores.gather(1, at)
        ranks = ranks_of_scores(scores, target, gone, barred)  # what takes no part has no score any more
        found = ranks < scores.shape[1]
        others = scores.scatter(1, at, torch.where(found[:, None], NEVER, scores.gather(1, at)))
        return Placed(ranks, own[:, 0].masked_fill(~found, NEVER), *best_of(others, n))

    def search(self, hidden: Tensor) -> Search:
        """As of `Ranking`."""
        return Exact(self.hiding(hidden))


class ByVectors(Scored):
    """By the product of a user's vector with an item's."""

    def __init__(self, vectors: Tensor, unknown: Tensor):
        """Args: ``[C, D]`` float32, and ``[C]`` bool, items that nothing is known of."""
        super().__init__(unknown, partial(Products, vectors))

    def approximate(self, hidden: Tensor) -> Search:
        """As `search`, through an index."""
        return Approximate(self.hiding(hidden))


def ranks_of_scores(
    scores: Tensor, target: Tensor, gone: Gone, barred: Tensor | None = None, drawn: Tensor | None = None
) -> Tensor:
    """``[B]`` int64: how many other items score at least as high as the row's own; as many as there are for one that has no score.

    Args:
        scores: ``[B, C]`` on the host; changed here.
        target: ``[B]`` int64 position of the row's own; -1 for none.
        gone: items that take no part.
        barred: ``[B, C]`` bool, others that do not; None: none.
        drawn: ``[B, K]`` int64 positions of those that take part, -1 for none; None: all.
    """
    own = scores.gather(1, target.clamp_min(0)[:, None])
    found = (target >= 0) & (own[:, 0] > NEVER)
    if drawn is not None:
        return among_drawn(own, found, scores.gather(1, drawn.clamp_min(0)), drawn)
    scores[gone] = NEVER
    if barred is not None:
        scores.masked_fill_(barred, NEVER)
    ahead = (scores >= own).sum(1)
    # The row's own item has been counted, unless it is one of those that are gone.
    was_gone = scores.gather(1, target.clamp_min(0)[:, None]) == NEVER
    ranks = ahead - (~was_gone[:, 0]).long()
    return torch.where(found, ranks, scores.shape[1])


def among_drawn(own: Tensor, found: Tensor, of_drawn: Tensor, drawn: Tensor) -> Tensor:
    """``[B]`` ranks of own scores ``[B, 1]`` among those of the items drawn, ``[B, K]`` each; ``found [B]``: it has a score."""
    of_drawn = of_drawn.masked_fill(drawn < 0, NEVER)
    return torch.where(found, (of_drawn >= own).sum(1), drawn.shape[1])
