"""A search along several orders of codes, of which each user has its own."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .any_order import AnyOrderDecoder, InOrder
from .beam import NEVER, beam_search
from .trie import Trie

_BYTES = 1 << 30  # of trees that are kept
_AT_ONCE = 1 << 13  # codes of items that are scored at a time


class Paths:
    """Finds what a decoder of any order finds likeliest, among the codes that items have."""

    def __init__(self, decoder: AnyOrderDecoder, trie: Trie):
        """Args: the decoder, not in training, and the tree of items in the levels' own order, one at least."""
        self._decoder, self._codes = decoder, trie.codes()
        of_a_tree = 8 * (2 * decoder.levels.shape[0] + 1) * (len(self._codes) + 1)
        self._tree = lru_cache(max(1, _BYTES // of_a_tree))(self._tree_of)

    def __call__(self, states: Tensor, beams: int) -> tuple[Tensor, Tensor]:
        """The best codes of users, found along any of their paths and scored by all of them.

        Args:
            states: ``[B, D]``.
            beams: beginnings that are followed along each path, as of `beam_search`.

        Returns:
            Scores ``[B, K]`` float32, the highest first, and leaves of the tree ``[B, K]`` int64; a score of minus infinity: none.
        """
        orders = self._decoder.orders(states)
        found = [self._along(states, order, beams) for order in orders.cpu().unbind(1)]
        leaves = torch.cat(found, 1).sort(1).values
        new = leaves >= 0
        new[:, 1:] &= leaves[:, 1:] != leaves[:, :-1]
        row, at = new.nonzero(as_tuple=True)
        scores = torch.full(leaves.shape, NEVER, device=states.device)
        for begin in range(0, len(row), _AT_ONCE):
            some = slice(begin, begin + _AT_ONCE)
            codes = self._codes[leaves[row[some], at[some]]]
            scores[row[some], at[some]] = self._decoder.scores_along(states[row[some]], codes, orders[row[some]])
        scores, by_score = scores.sort(dim=1, descending=True, stable=True)
        return scores, leaves.gather(1, by_score)

    def _along(self, states: Tensor, orders: Tensor, beams: int) -> Tensor:
        """``[B, K]`` int64 leaves found along one order ``[B, M]`` of each user; -1: none."""
        every, of_user = torch.unique(orders, dim=0, return_inverse=True)
        leaves = torch.full((len(states), min(beams, len(self._codes))), -1, device=states.device)
        for number, order in enumerate(every.tolist()):
            mine = (of_user == number).nonzero()[:, 0].to(states.device)
            tree = self._tree(tuple(order))
            scores, at = beam_search(InOrder(self._decoder, order), states[mine], tree, beams)
            leaf = torch.where(scores > NEVER, tree.items[tree.first[-1][at]], -1)
            leaves[mine[:, None], torch.arange(leaf.shape[1], device=leaf.device)] = leaf
        return leaves

    def _tree_of(self, order: tuple[int, ...]) -> Trie:
        """The tree of an order, whose items are the leaves of the other."""
        codes = self._codes.cpu().numpy()[:, list(order)]
        sizes = [self._decoder.sizes[level] for level in order]
        return Trie.of(codes, sizes, np.arange(len(codes)), self._codes.device)
