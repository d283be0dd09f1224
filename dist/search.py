"""The best items for user vectors: exactly, block after block, or approximately through FAISS."""

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..data.errors import UserError

CELLS = 1 << 24  # scores held at a time
NEVER = float("-inf")
_LISTED_AT_LEAST = 40  # items per list that k-means wants to learn from
_PROBED = 8  # one list in so many, but at least one


class Search(Protocol):
    """A search among C items."""

    def best(self, users: Tensor, k: int, gone: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Scores and positions of the best items, ``[B, K]`` each on the host, K <= k; a score of minus infinity: none.

        Args:
            users: ``[B, D]`` float32.
            k: items per user.
            gone: row and position of items that are left out, ``[G]`` int64 each, on the host.
        """
        ...


class Exact:
    """Products with all items; what is held is one block of them."""

    def __init__(self, vectors: Tensor, hidden: Tensor):
        """Args: ``[C, D]`` float32, and ``[C]`` bool, items that are never found."""
        self._vectors, self._hidden = vectors, hidden

    def best(self, users: Tensor, k: int, gone: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """As of `Search`."""
        (row, place), size = (of.to(users.device) for of in gone), max(k, CELLS // max(len(users), 1))
        found: list[tuple[Tensor, Tensor]] = []
        for start in range(0, len(self._vectors), size):
            part = slice(start, start + size)
            scores = (users @ self._vectors[part].T).masked_fill_(self._hidden[part], NEVER)
            inside = (place >= start) & (place < start + size)
            scores[row[inside], place[inside] - start] = NEVER
            top, at = scores.topk(min(k, scores.shape[1]), 1)
            found = [_better([*found, (top, at + start)], k)]
        return (found[0][0].cpu(), found[0][1].cpu()) if found else _nothing(len(users))


class Approximate:
    """FAISS's inverted lists: items are grouped around centres, and a user's are looked for in the nearest groups only.

    Source: Jégou, Douze and Schmid (2011); Douze et al., The Faiss library (2024).
    """

    def __init__(self, vectors: Tensor, hidden: Tensor):
        """Builds the index on the host; arguments as of `Exact`.

        Raises:
            UserError: FAISS is not installed.
        """
        faiss = faiss_module()
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
        """As of `Search`; it may miss items."""
        if not len(users) or not len(self._positions):
            return _nothing(len(users))
        row, place = gone
        most = int(torch.bincount(row, minlength=1).max())  # so many more, as they may all be among the best
        scores, found = self._index.search(users.cpu().numpy(), min(k + most, len(self._positions)))
        at = self._positions[torch.from_numpy(found).clamp_min(0)]
        top = torch.from_numpy(scores).masked_fill(torch.from_numpy(found) < 0, NEVER)
        whole = int(self._positions.max()) + 1
        inside = place < whole
        left_out = torch.isin(torch.arange(len(users))[:, None] * whole + at, row[inside] * whole + place[inside])
        return _better([(top.masked_fill(left_out, NEVER), at)], k)


def faiss_module() -> Any:
    """FAISS.

    Raises:
        UserError: it is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise UserError(
            "--approximate",
            "needs FAISS, which is not installed",
            "pip install faiss-cpu, or leave --approximate away.",
        ) from None
    return faiss


def recall(given: Tensor, wanted: tuple[Tensor, Tensor]) -> float:
    """The share of what an exact search found, scores and positions ``[B, K]``, that is in the same row of ``given [B, K']``."""
    scores, at = wanted
    there = scores > NEVER
    found = (at[:, :, None] == given[:, None, :]).any(2) & there
    return float(found.sum() / there.sum().clamp_min(1))


def _better(parts: list[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    scores, at = (torch.cat(of, 1) for of in zip(*parts, strict=True))
    top, of_top = scores.topk(min(k, scores.shape[1]), 1)
    return top, at.gather(1, of_top)


def _nothing(rows: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(rows, 0), torch.zeros(rows, 0, dtype=torch.int64)
