"""The codes of all items as a tree: which codes may follow which, and whose they are."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Trie:
    """A tree of M levels, whose node at a depth is what codes begin with. Nodes of a depth are in the order of their codes.

    Attributes:
        values: of each depth from 1 on, ``[N]`` int64, the last code of each node.
        first: of each depth from 0 on, ``[N + 1]`` int64: the children of node n are first[n] to first[n + 1] of the next depth, and of
            the last depth these are its items, as places in ``items``.
        items: ``[C]`` int64 positions of the items, those of a node together, by position.
        sizes: how many values each level has.
    """

    values: tuple[Tensor, ...]
    first: tuple[Tensor, ...]
    items: Tensor
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, codes: np.ndarray, sizes: Sequence[int], positions: np.ndarray, device: torch.device) -> "Trie":
        """The tree of some items.

        Args:
            codes: ``[C, M]`` integers, each below its level's size.
            sizes: of the levels.
            positions: ``[C]`` int64, of the items, rising.
            device: where it is used.
        """
        order = np.lexsort((positions, *codes.T[::-1]))
        codes, begins = codes[order], np.zeros(len(order), bool)
        values, starts = [], []
        for column in codes.T:  # a node begins where its own code or one before it changes
            begins[:1] = True
            begins[1:] |= column[1:] != column[:-1]
            starts.append(np.flatnonzero(begins))
            values.append(column[starts[-1]])
        ends = [np.append(of, len(order)) for of in ([0] if len(order) else [], *starts)]
        first = [np.searchsorted(below[:-1], above) for above, below in itertools.pairwise(ends)] + [ends[-1]]

        def long(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, np.int64)).to(device)

        return cls(tuple(map(long, values)), tuple(map(long, first)), long(positions[order]), tuple(sizes))

    @property
    def leaves(self) -> int:
        """How many different codes there are."""
        return len(self.values[-1])

    def codes(self) -> Tensor:
        """``[leaves, M]`` int64: the codes of each leaf."""
        nodes, levels = torch.arange(self.leaves, device=self.items.device), []
        for depth in range(len(self.sizes) - 1, -1, -1):
            levels.append(self.values[depth][nodes])
            nodes = torch.searchsorted(self.first[depth], nodes, right=True) - 1
        return torch.stack(levels[::-1], 1)

    def children(self, depth: int, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The nodes of the next depth below ``nodes [K]`` int64 of a depth: side by side, as many places as the most have.

        Returns:
            ``[K, W]`` int64 nodes, and ``[K, W]`` bool: whether there is one in that place.
        """
        first = self.first[depth]
        begin, end = first[nodes, None], first[nodes + 1, None]
        most = int((end - begin).max())
        place = begin + torch.arange(most, device=nodes.device)
        there = place < end
        return place.clamp_max_(len(self.values[depth]) - 1), there

    def items_of(self, leaves: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """The items of ``leaves [K]`` int64, at most so many of each: which of the K, and their positions, ``[I]`` int64 each."""
        first = self.first[-1]
        begin, many = first[leaves], (first[leaves + 1] - first[leaves]).clamp_max(most)
        row = torch.repeat_interleave(torch.arange(len(leaves), device=leaves.device), many)
        place = torch.arange(len(row), device=leaves.device) - (many.cumsum(0) - many)[row] + begin[row]
        return row, self.items[place]
