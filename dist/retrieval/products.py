"""Scores of users and items, in which equal items tie whatever the rest of the matrix is."""

import numpy as np
import torch
from torch import Tensor

from ...data.arrow.ids import mix

NEVER = float("-inf")
_HASHED = 8192  # vectors at a time


class Products:
    """Products of user vectors with those of C items, minus infinity for hidden ones.

    How a matrix product rounds depends on its shape and on the place in it, so equal vectors could score a last bit apart. Those
    that several items share are multiplied once, and all of these items have that score.
    """

    def __init__(self, vectors: Tensor, hidden: Tensor):
        """Args: ``[C, D]`` float32, and ``[C]`` bool, items that score minus infinity."""
        self.vectors, self.hidden = vectors, hidden
        shown = (~hidden).nonzero()[:, 0].cpu().numpy()
        _, first, group, size = np.unique(
            _keys(vectors)[shown], return_index=True, return_inverse=True, return_counts=True
        )
        shared = size > 1
        self._shared = vectors[torch.from_numpy(shown[first[shared]]).to(vectors.device)]
        twin = np.full(len(vectors), -1, np.int64)
        twin[shown] = np.where(shared, np.cumsum(shared) - 1, -1)[group]
        self._twin = torch.from_numpy(twin).to(vectors.device)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def shared(self) -> int:
        """S, how many vectors several items have."""
        return len(self._shared)

    def of_shared(self, users: Tensor) -> Tensor:
        """``[B, S]``: the scores of vectors that several items have."""
        return users @ self._shared.T

    def of(self, users: Tensor, of_shared: Tensor, part: slice = slice(None)) -> Tensor:
        """``[B, items of the part]`` for user vectors ``[B, D]`` and their `of_shared`."""
        scores = users @ self.vectors[part].T
        twin = self._twin[part]
        if len(self._shared):
            at = (twin >= 0).nonzero()[:, 0]
            scores[:, at] = of_shared[:, twin[at]]
        return scores.masked_fill_(self.hidden[part], NEVER)

    def pairs(self, users: Tensor, at: Tensor) -> Tensor:
        """``[B, K]``: the scores of the items at ``[B, K]``, of a user one by one, so that equal items score alike."""
        return (users[:, None] * self.vectors[at]).sum(2)

    def settled(self, scores: Tensor, at: Tensor, of_shared: Tensor) -> Tensor:
        """Scores ``[B, K]`` that another search gave items ``at [B, K]``, with the one score that equal items have."""
        if not len(self._shared):
            return scores
        twin = self._twin.cpu()[at]
        return torch.where(twin >= 0, of_shared.cpu().gather(1, twin.clamp_min(0)), scores)


def _keys(vectors: Tensor) -> np.ndarray:
    """``[C]`` uint64, a multilinear hash (Lemire and Kaser, 2014) of the bits of each vector."""
    bits = (vectors + 0.0).cpu().numpy().view(np.uint32)  # minus zero is zero
    multipliers = mix(np.arange(bits.shape[1])) | np.uint64(1)
    parts = [
        (bits[start : start + _HASHED].astype(np.uint64) + np.uint64(1)) @ multipliers
        for start in range(0, len(bits), _HASHED)
    ]
    return mix(np.concatenate([np.zeros(0, np.uint64), *parts]))


def best_of(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best of each row of ``[B, C]`` and where they are, ``[B, min(k, C)]`` each: by score, and equal ones by place."""
    k = min(k, scores.shape[1])
    top, at = scores.topk(min(k + 1, scores.shape[1]), 1)
    tied = (top[:, 1:] == top[:, :-1]) & (top[:, 1:] > NEVER)
    # Where the first item that has no place scores as the last one that has, topk may have taken any of their equals.
    many = tied[:, k - 1] if tied.shape[1] == k else torch.zeros_like(top[:, 0], dtype=torch.bool)
    top, at = top[:, :k], at[:, :k]
    if not tied.any():
        return top, at
    if many.any():
        of_many, least = scores[many], top[many][:, -1:]
        above, equal = of_many > least, of_many == least
        first = equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True))
        at[many] = (above | first).nonzero()[:, 1].view(-1, k)
        top = scores.gather(1, at)
    return in_order(top, at)


def in_order(scores: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and places ``[B, K]``, the highest score first and equal ones by place."""
    by_place = at.argsort(1)
    scores, at = scores.gather(1, by_place), at.gather(1, by_place)
    scores, by_score = scores.sort(dim=1, descending=True, stable=True)
    return scores, at.gather(1, by_score)
