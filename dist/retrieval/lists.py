"""The lists that the ranks of rows speak of, and what is good or bad of a list as a list."""

from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .alike import Likeness, some_lists
from .products import NEVER
from .protocol import PLACES, Protocol
from .rankings import Gone, Placed
from .retrieval import Retriever
from .slate import Slate
from .slates import slates

LISTED = 10
"""Items of a list that metrics look at."""


def lists_of(placed: Placed, target: Tensor, slate: Slate | None, likeness: Likeness, k: int) -> tuple[Tensor, Tensor]:
    """The best k items of each row, its own among them where its rank says so, or what a slate makes of the best.

    An item that a list leaves out is behind it, in the order of scores.

    Args:
        placed: of at least as many others as a slate's pool has, k where there is none.
        target: ``[B]`` int64 positions of the rows' own items; -1 for none.
        slate: as users ask for it; None: by scores.
        likeness: of the items.
        k: places of a list.

    Returns:
        ``[B]`` int64, how many items are ahead of the row's own, and ``[B, k]`` int64 positions of the items, -1 for none; on the host.
    """
    scores, at = _with_own(placed, target, k if slate is None else slate.pool)
    order, ranks = torch.arange(scores.shape[1]).expand(len(scores), -1)[:, :k], placed.ranks
    if slate is not None:
        order = slates(slate, scores, at, likeness, k)
        mine, behind = order == ranks[:, None], order > ranks[:, None]
        moved = torch.where(mine.any(1), mine.int().argmax(1), ranks + behind.sum(1))
        ranks = torch.where(placed.own > NEVER, moved, ranks)
    there = scores.gather(1, order) > NEVER
    listed = torch.full((len(at), k), -1)
    listed[:, : order.shape[1]] = torch.where(there, at.gather(1, order), -1)
    return ranks, listed


def _with_own(placed: Placed, target: Tensor, pool: int) -> tuple[Tensor, Tensor]:
    """Scores and positions ``[B, N]``, N <= pool, of the best, each row's own item being where its rank says: behind those it ties with."""
    scores = torch.cat([placed.scores, placed.scores.new_full((len(target), 1), NEVER)], 1)
    at = torch.cat([placed.at, placed.at.new_zeros(len(target), 1)], 1)
    place, ranks = torch.arange(scores.shape[1])[None], placed.ranks[:, None]
    source = torch.where(place > ranks, place - 1, place)
    scores = torch.where(place == ranks, placed.own[:, None], scores.gather(1, source))
    at = torch.where(place == ranks, target[:, None], at.gather(1, source))
    return scores[:, :pool], at[:, :pool]


class ListTeller:
    """Makes the lists of rows and tells of each, for `list_metrics`."""

    def __init__(self, retriever: Retriever, protocol: Protocol):
        """Args: what knows all items, and what is asked for."""
        self._ranking, self._likeness = retriever.ranking, retriever.likeness(protocol.alike)
        self._slate = protocol.slate
        counts = retriever.items.counts
        seen = np.maximum(counts.astype(np.float64), 1)  # an item never seen counts as one seen once
        self._surprise = -np.log2(seen / max(seen.sum(), 1))
        ordered = np.sort(counts)
        below, upto = (np.searchsorted(ordered, counts, side) for side in ("left", "right"))
        self._popularity = (below + upto) / (2 * max(len(counts), 1))

    def of(
        self, users: Tensor, target: Tensor, gone: Gone, barred: Tensor | None, past: Gone
    ) -> tuple[Tensor, dict[str, NDArray]]:
        """Ranks ``[B]`` of the rows' own items, and columns ``[B]`` of their lists.

        ``listed [B, LISTED]`` int32 has positions, -1 for none; the others are float64, NaN where there is nothing to tell of: ``distance``, the mean
        of 1 - likeness over pairs of items, ``novelty``, the mean of -log2 of an item's share of the training's interactions, ``popularity``, the
        mean share of all items that are seen less often, half of those that are as often, and ``past_popularity``, the same of past items.

        Args: as of `Ranking.placed`, and row and position of each past item, ``[P]`` int64 each.
        """
        k, n = (LISTED, LISTED) if self._slate is None else (PLACES, self._slate.pool)
        placed = self._ranking.placed(users, target, gone, barred, n)
        ranks, at = lists_of(placed, target, self._slate, self._likeness, k)
        at = at[:, :LISTED]
        if barred is not None:  # the row's own item takes part all the same, and is in no list that anybody is shown
            at = torch.where(barred.gather(1, at.clamp_min(0)), -1, at)
        row, place = (of.numpy() for of in past)
        items, there = np.maximum(at.numpy(), 0), at.numpy() >= 0
        columns = {
            "distance": self._distance(at),
            "novelty": _mean(np.where(there, self._surprise[items], 0).sum(1), there.sum(1)),
            "popularity": _mean(np.where(there, self._popularity[items], 0).sum(1), there.sum(1)),
            "past_popularity": _mean(
                np.bincount(row, self._popularity[place], len(at)), np.bincount(row, minlength=len(at))
            ),
        }
        return ranks, {"listed": at.numpy().astype(np.int32)} | columns

    def _distance(self, at: Tensor) -> NDArray[np.float64]:
        out = [np.zeros(0)]
        for part, alike in some_lists(at.clamp_min(0), self._likeness):
            there, found = at[part] >= 0, alike.cpu()
            sums, pairs = torch.zeros(len(there), dtype=torch.float64), torch.zeros(len(there), dtype=torch.int64)
            # One by one: what floats add up to depends on their order.
            for first, second in combinations(range(at.shape[1]), 2):
                both = there[:, first] & there[:, second]
                sums += torch.where(both, 1 - found[:, first, second], 0)
                pairs += both
            out.append(_mean(sums.numpy(), pairs.numpy()))
        return np.concatenate(out)


def _mean(sums: NDArray, many: NDArray) -> NDArray[np.float64]:
    return np.where(many > 0, sums / np.maximum(many, 1), np.nan)
