"""Lists that are chosen from the best items so that these are not all of one kind."""

from collections.abc import Callable

import torch
from torch import Tensor

from .alike import Likeness, some_lists
from .products import NEVER
from .slate import Slate

_LEAST = -1e300  # of an item that is not there: it is chosen behind all others
_RIDGE = 1e-5  # what is left of an item that is equal to one in the list, of 1

Gains = Callable[[Tensor], Tensor]
"""Place ``[B]`` of what a list has just been given -> ``[B, N]`` float64, what each item would add to it."""


def slates(slate: Slate, scores: Tensor, at: Tensor, likeness: Likeness, k: int) -> Tensor:
    """Places ``[B, min(k, N)]`` int64 on the host of the items that lists are made of, in the list's order; the first is the best item.

    What a list is depends on its own row alone. Of items that add as much the better one is taken.

    Args:
        slate: what is asked for.
        scores: ``[B, N]`` of the best items, the highest first; minus infinity: none. A user's relevance runs from 1, the best's, to 0, the last's.
        at: ``[B, N]`` int64 their positions among all items.
        likeness: of these.
        k: places of a list.
    """
    if not (k := min(k, scores.shape[1])) or not len(scores):
        return torch.zeros(len(scores), k, dtype=torch.int64)
    parts: list[Tensor] = []
    for part, alike in some_lists(at, likeness):
        relevance, there = _relevance(scores[part].to(likeness.device))
        parts.append(_greedy(relevance, there, alike, slate, k).cpu())
    return torch.cat(parts)


def _relevance(scores: Tensor) -> tuple[Tensor, Tensor]:
    """``[B, N]`` float64 from 0 to 1, and which items are there."""
    there, scores = scores > NEVER, scores.double()
    best, last = scores[:, :1], scores.masked_fill(~there, float("inf")).amin(1, keepdim=True)
    span = best - last
    return torch.where(there & (span > 0), (scores - last) / torch.where(span > 0, span, 1), 0), there


def _greedy(relevance: Tensor, there: Tensor, alike: Tensor, slate: Slate, k: int) -> Tensor:
    """As of `slates`, for some of the lists."""
    gains, taken = GAINS[slate.method](relevance, alike, slate.weight), torch.zeros_like(there)
    chosen = [torch.zeros(len(there), dtype=torch.int64, device=there.device)]
    for _ in range(1, k):
        taken.scatter_(1, chosen[-1][:, None], True)
        gain = torch.where(there, gains(chosen[-1]), _LEAST).masked_fill(taken, NEVER)
        chosen.append(gain.argmax(1))  # the first of equal ones
    return torch.stack(chosen, 1)


def mmr(relevance: Tensor, alike: Tensor, weight: float) -> Gains:
    """Maximal marginal relevance: an item's relevance, less how alike it is to what is most alike in the list.

    Source: Carbonell and Goldstein (1998).

    Args:
        relevance: ``[B, N]`` float64.
        alike: ``[B, N, N]`` float64, as of `Likeness.of`.
        weight: from 0 to 1, of the second.
    """
    nearest, user = torch.full_like(relevance, NEVER), torch.arange(len(relevance), device=relevance.device)

    def gains(place: Tensor) -> Tensor:
        nonlocal nearest
        nearest = torch.maximum(nearest, alike[user, place])
        return (1 - weight) * relevance - weight * nearest

    return gains


def dpp(relevance: Tensor, alike: Tensor, weight: float) -> Gains:
    """The likeliest list of a determinantal point process, item by item: relevance, and the logarithm of the determinant of how alike items are.

    That is (1 - weight) times the sum of relevance and weight times log det S, S being (1 + alike) / 2 with a little added along its diagonal, so that
    an item equal to one in the list is worth little and not nothing. A Cholesky factor grows by a row for each item.

    Source: Chen, Zhang and Zhou, Fast Greedy MAP Inference for Determinantal Point Process (2018).

    Args: as of `mmr`.
    """
    rows: list[Tensor] = []
    left, user = torch.full_like(relevance, 1 + _RIDGE), torch.arange(len(relevance), device=relevance.device)

    def gains(place: Tensor) -> Tensor:
        nonlocal left
        row, place = (1 + alike[user, place]) / 2, place[:, None]
        for earlier in rows:  # one by one: how a matrix product adds up depends on its shape
            row = row - earlier.gather(1, place) * earlier
        row = row / left.gather(1, place).sqrt()
        rows.append(row)
        left = left - row * row
        # Where in memory a number stands may decide the last bits of its logarithm.
        return (1 - weight) * relevance + weight * left.clamp_min(_RIDGE / 2).log().float().double()

    return gains


GAINS = {"mmr": mmr, "dpp": dpp}
