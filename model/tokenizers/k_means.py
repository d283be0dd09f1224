"""K-means over ranks: each sums up the items of its blocks, in whole numbers, so that any number of ranks finds the same centroids."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .items import FINE, Items

_SAMPLE = 64  # items for each centroid, among which the first ones are chosen
_MOST_SAMPLED = 1 << 15
_SETTLED = 1e-4  # of the error: what an iteration must take off it
_BALANCING = 8  # of Sinkhorn, in each iteration
_TEMPERATURE = 0.1  # of the mean distance, at which it balances

Seen = Callable[[np.ndarray], Tensor]
"""Vectors ``[n, d]`` of items at positions, as a level sees them."""


def distances(x: Tensor, centroids: Tensor) -> Tensor:
    """``[n, V]`` squared distances of ``[n, d]`` to ``[V, d]``, less each vector's own length."""
    return (centroids * centroids).sum(1) - 2 * x @ centroids.T


def nearest(x: Tensor, centroids: Tensor, price: Tensor | None = None) -> Tensor:
    """``[n]`` int64, the nearest centroid of each; ``price [V]`` is added to distances."""
    found = distances(x, centroids)
    return (found if price is None else found + price).argmin(1)


def quantised(x: Tensor, centroids: Tensor, prices: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Codes ``[n, L]`` int64 of ``[n, d]``, each level of what those before it leave, and what all leave.

    Args:
        centroids: ``[L, V, d]``.
        prices: ``[L, V]``, as of `nearest`; None: none.
    """
    found = []
    for level, of_level in enumerate(centroids):
        found.append(nearest(x, of_level, None if prices is None else prices[level]))
        x = x - of_level[found[-1]]
    return torch.stack(found, 1) if found else torch.zeros(len(x), 0, dtype=torch.int64), x


def k_means(
    items: Items, seen: Seen, values: int, number: int, iterations: int, balanced: bool = False
) -> tuple[Tensor, Tensor]:
    """Centroids of items, begun as k-means++ (Arthur and Vassilvitskii, 2007) does on some of them.

    A centroid that has lost all its items begins anew, at the item of the sample that is worst served.

    Args:
        items: all.
        seen: their vectors.
        values: V.
        number: of this fit among those of a codebook; with the seed it decides what is random.
        iterations: at most.
        balanced: gives all values about as many items, by a price on the crowded ones (Sinkhorn; Cuturi, 2013).

    Returns:
        ``[V, d]`` and prices ``[V]``, zeros where they are not balanced; float32.
    """
    sample = seen(items.sample(min(_MOST_SAMPLED, max(_SAMPLE * values, 1024))))
    centroids = _plus_plus(sample, values, items.generator(number))
    price, before = torch.zeros(len(centroids)), float("inf")
    for _ in range(iterations):
        if balanced:
            price = _prices(items, seen, centroids, price)
        sums, counts, error = _summed(items, seen, centroids, price)
        there = counts > 0
        means = torch.from_numpy(sums / np.maximum(counts, 1)[:, None] / FINE).float()
        centroids = torch.where(torch.from_numpy(there)[:, None], means, centroids)
        if (dead := np.flatnonzero(~there)).size:
            worst = distances(sample, centroids[torch.from_numpy(there)]).amin(1) + (sample * sample).sum(1)
            taken = worst.argsort(descending=True, stable=True)[: len(dead)]
            centroids[torch.from_numpy(dead[: len(taken)])] = sample[taken]
        elif error > (1 - _SETTLED) * before:
            break
        before = error
    return centroids, _prices(items, seen, centroids, price) if balanced else price


def _plus_plus(sample: Tensor, values: int, generator: torch.Generator) -> Tensor:
    """``[V, d]`` of a sample, each far from those before it; where there are fewer different ones, the rest are shifted a little."""
    first = int(torch.randint(len(sample), (1,), generator=generator))
    chosen, length = [first], (sample * sample).sum(1)
    away = (distances(sample, sample[first][None])[:, 0] + length).clamp_min(0)
    while len(chosen) < min(values, len(sample)):
        if not float(away.sum()) > 0:
            break
        at = int(torch.multinomial(away.double() / away.double().sum(), 1, generator=generator))
        chosen.append(at)
        away = torch.minimum(away, (distances(sample, sample[at][None])[:, 0] + length).clamp_min(0))
    found = sample[chosen]
    if len(found) < values:  # nothing will ever be nearer to these than to what they are copies of
        spare = torch.full((values - len(found), sample.shape[1]), 1e6 * (1 + float(sample.abs().max())))
        found = torch.cat([found, spare])
    return found.clone()


def _summed(items: Items, seen: Seen, centroids: Tensor, price: Tensor) -> tuple[np.ndarray, np.ndarray, float]:
    """Sums ``[V, d]`` of items by centroid, in parts of `FINE`, counts ``[V]``, and the error."""
    values, width = centroids.shape
    total = np.zeros((values, width + 2), np.int64)
    for block in items.blocks():
        x = seen(block)
        found = distances(x, centroids)
        at = (found + price).argmin(1)
        off = (found.gather(1, at[:, None])[:, 0] + (x * x).sum(1)).clamp_min(0)
        whole = torch.cat([x, off[:, None]], 1).mul(FINE).round().long()
        sums = torch.zeros(values, width + 1, dtype=torch.int64).index_add_(0, at, whole)
        total[:, : width + 1] += sums.numpy()
        total[:, -1] += torch.bincount(at, minlength=values).numpy()
        items.told(len(block))
    total = items.add_up(total)
    return total[:, :width], total[:, -1], float(total[:, width].sum()) / FINE


def _prices(items: Items, seen: Seen, centroids: Tensor, price: Tensor) -> Tensor:
    """What to add to distances ``[V]`` so that about as many items are nearest to each centroid."""
    sample = seen(items.sample(_MOST_SAMPLED))
    costs = distances(sample, centroids) + (sample * sample).sum(1, keepdim=True)
    scale = max(float(costs.amin(1).mean()), 1e-9) * _TEMPERATURE
    wanted = len(sample) / len(centroids)
    for _ in range(_BALANCING):
        shares = (-(costs + price) / scale).softmax(1).sum(0)
        price = price + scale * (shares.clamp_min(1e-6) / wanted).log()
    return price - price.mean()
