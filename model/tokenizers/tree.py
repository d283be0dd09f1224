"""A tree of items that are found together: which of its branches an item is on."""

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from ...data.arrow.ids import mix
from ...data.content_kinds.codes import Tokenizer, Values
from ...data.settings_base import Positive
from .items import Codebook, Items
from .k_means import k_means, nearest

_SPLIT = 24  # items that a branch needs for another split; fewer are dealt out by their hash


class Tree(Tokenizer):
    """Recursive clustering of which items are together in training rows (collaborative indexing: Hua et al., How to Index Item IDs,
    2023): the items of each branch are split by k-means of their places in the graph. What no training row shows with another item is put
    on a branch by its hash."""

    method: Literal["tree"] = "tree"
    levels: int = Field(default=3, ge=1, le=8, description="levels of codes")
    size: Values = Field(default=16, description="branches of each")
    dimension: Positive = Field(default=64, description="of places in the graph: its leading directions")
    iterations: Positive = Field(default=25, description="of k-means, at most")

    @property
    def values(self) -> tuple[int, ...]:
        return (self.size,) * self.levels

    @property
    def graph(self) -> bool:
        return True

    def fit(self, items: Items) -> Codebook:
        """Of each level, the branches that were split, ``[B]`` int64, and their centroids ``[B, V, d]``."""
        codebook: Codebook = {}
        every = np.arange(len(items))
        every = every[_placed(items.at(every))]  # the others go by their hash, and need no branch
        branch = np.zeros(len(every), np.int64)
        number = 0
        for level in range(self.levels):
            there, sizes = np.unique(branch, return_counts=True)
            split, centroids = there[sizes >= _SPLIT], []
            for of in split:
                some = items.some(every[branch == of])
                centroids.append(k_means(some, some.at, self.size, number, self.iterations)[0])
                number += 1
            width = items.at(every[:0]).shape[1]
            codebook[f"split.{level}"] = torch.from_numpy(split)
            codebook[f"centroids.{level}"] = torch.stack(centroids) if centroids else torch.zeros(0, self.size, width)
            branch = branch * self.size + self._level(codebook, items, every, branch, level)
        return codebook

    def codes(self, codebook: Codebook, items: Items, at: np.ndarray) -> np.ndarray:
        """``[n, L]`` of items at positions ``[n]``."""
        branch, found = np.zeros(len(at), np.int64), []
        for level in range(self.levels):
            found.append(self._level(codebook, items, at, branch, level))
            branch = branch * self.size + found[-1]
        return np.stack(found, 1)

    def _level(self, codebook: Codebook, items: Items, at: np.ndarray, branch: np.ndarray, level: int) -> np.ndarray:
        """``[n]`` which way items go from the branches they are on."""
        code = (mix(items.keys[at] ^ mix(np.array([level]))) % np.uint64(self.size)).astype(np.int64)
        split = codebook[f"split.{level}"].numpy()
        x = items.at(at)
        of = np.searchsorted(split, branch)
        known = _placed(x) & (of < len(split))
        known[known] = split[of[known]] == branch[known]
        for one in np.unique(of[known]):
            mine = np.flatnonzero(known & (of == one))
            code[mine] = nearest(x[torch.from_numpy(mine)], codebook[f"centroids.{level}"][one]).numpy()
        return code


def _placed(x: torch.Tensor) -> np.ndarray:
    """``[n]`` bool, which items are with others."""
    return (x != 0).any(1).numpy()
