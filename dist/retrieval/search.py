"""The best items for user vectors: exactly, block after block, or approximately through FAISS."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...data.errors import UserError
from .products import NEVER, Products, best_of, in_order

CELLS = 1 << 24  # scores held at a time
_LISTED_AT_LEAST = 40  # items per list that k-means wants to learn from
_PROBED = 8  # one list in so many, but at least one


class Search(Protocol):
    """A search among C items."""

    def best(self, users: Tensor, k: int, gone: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Scores and positions of the best items, ``[B, K]`` each on the host, K <= k; a score of minus infinity: none.

        The highest score comes first, and of equal ones the item with the lowest position.

        Args:
            users: ``[B, D]`` float32, or what else a ranking knows of a user.
            k: items per user.
            gone: row and position of items that are left out, ``[G]`` int64 each, on the host.
        """
        ...


class Exact:
    """Scores of all items; what is held is one block of them."""

    def __init__(self, products: Any):
        """Args: `Products`, or what else has scores of all items, of which those of minus infinity are never found."""
        self._products = products

    def best(self, users: Tensor, k: int, gone: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """As of `Search`."""
        return _some_at_a_time(self._best, users, k, gone, self._products.shared)

    def _best(self, users: Tensor, k: int, gone: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        (row, place), size = (of.to(users.device) for of in gone), max(k, CELLS // max(len(users), 1))
        found: list[tuple[Tensor, Tensor]] = []
        of_shared = self._products.of_shared(users)
        for start in range(0, len(self._products), size):
            scores = self._products.of(users, of_shared, slice(start, start + size))
            inside = (place >= start) & (place < start + size)
            scores[row[inside], place[inside] - start] = NEVER
            top, at = best_of(scores, k)
            found = [_better([*found, (top, at + start)], k)]
        return (found[0][0].cpu(), found[0][1].cpu()) if found else nothing(len(users))


class Approximate:
    """FAISS's inverted lists: items are grouped around centres, and a user's are looked for in the nearest groups only.

    Source: Jégou, Douze and Schmid (2011); Douze et al., The Faiss library (2024).
    """

    def __init__(self, products: Products):
        """Builds the index on the host, of what is not hidden.

        Raises:
            UserError: FAISS is not installed.
        """
        faiss = faiss_module()
        vectors, hidden = products.vectors, products.hidden
        self._products = products
        self._positions = (~hidden).nonzero()[:, 0].cpu()
        kept = np.ascontiguousarray(vectors.cpu().numpy()[self._positions.numpy()], np.float32)
        lists = max(1, min(int(4 * len(kept) ** 0.5), len(kept) // _LISTED_AT_LEAST))
        kind = "Flat" if lists == 1 else f"IVF{lists},Flat"
        self._index = faiss.index_factory(kept.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        if len(kept):
            self._index.train(kept)
            self._index.add(kept)
        if lists > 1:
            self._index.nprobe = -(-lists // _PROBED)

    def best(self, users: Tensor, k: int, gone: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """As of `Search`; it may miss items, of equal ones too."""
        if not len(users) or not len(self._positions):
            return nothing(len(users))
        return _some_at_a_time(self._best, users, k, gone, self._products.shared)

    def _best(self, users: Tensor, k: int, gone: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        row, place = gone
        most = int(torch.bincount(row, minlength=1).max())  # so many more, as they may all be among the best
        scores, found = self._index.search(users.cpu().numpy(), min(k + most, len(self._positions)))
        at = self._positions[torch.from_numpy(found).clamp_min(0)]
        scores = self._products.settled(torch.from_numpy(scores), at, self._products.of_shared(users))
        top = scores.masked_fill(torch.from_numpy(found) < 0, NEVER)
        whole = int(self._positions.max()) + 1
        inside = place < whole
        left_out = torch.isin(torch.arange(len(users))[:, None] * whole + at, row[inside] * whole + place[inside])
        top, at = in_order(top.masked_fill(left_out, NEVER), at)
        return top[:, :k], at[:, :k]


def faiss_module() -> Any:
    """FAISS.

    Raises:
        UserError: it is not installed.
    """
    try:
        import faiss  # slow to import, and an extra that only --approximate needs
    except ImportError:
        raise UserError(
            "--approximate",
            "needs FAISS, which is not installed",
            "pip install faiss-cpu, or leave out --approximate.",
        ) from None
    return faiss


def recall(given: Tensor, wanted: tuple[Tensor, Tensor]) -> float:
    """The share of what an exact search found, scores and positions ``[B, K]``, that is in the same row of ``given [B, K']``."""
    scores, at = wanted
    there = scores > NEVER
    found = (at[:, :, None] == given[:, None, :]).any(2) & there
    return float(found.sum() / there.sum().clamp_min(1))


def _some_at_a_time(
    best: Callable[[Tensor, int, tuple[Tensor, Tensor]], tuple[Tensor, Tensor]],
    users: Tensor,
    k: int,
    gone: tuple[Tensor, Tensor],
    shared: int,
) -> tuple[Tensor, Tensor]:
    """A search for so many users at a time that the scores of ``shared`` vectors can be held."""
    size = max(1, CELLS // max(shared, 1))
    if len(users) <= size:
        return best(users, k, gone)
    found = []
    for start in range(0, len(users), size):
        inside = (gone[0] >= start) & (gone[0] < start + size)
        found.append(best(users[start : start + size], k, (gone[0][inside] - start, gone[1][inside])))
    top, at = zip(*found, strict=True)
    return torch.cat(top), torch.cat(at)


def _better(parts: list[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """Of items in order, those of the earlier parts having the lower positions."""
    scores, at = (torch.cat(of, 1) for of in zip(*parts, strict=True))
    top, by_score = scores.sort(dim=1, descending=True, stable=True)
    return top[:, :k], at.gather(1, by_score)[:, :k]


def nothing(rows: int) -> tuple[Tensor, Tensor]:
    """What a search among no items finds."""
    return torch.zeros(rows, 0), torch.zeros(rows, 0, dtype=torch.int64)
