"""Beam search over the codes that items have."""

from typing import Protocol

import torch
from torch import Tensor

from .autoregressive import Cache
from .trie import Trie

NEVER = float("-inf")
AT_FIRST = 3
"""How many times as many beginnings of one code are followed: a first code says least of what comes out in the end. On Amazon Beauty all
items of the first ten had a beginning among the 81 likeliest of 256, and among the 38 likeliest once there were two codes."""


class Steps(Protocol):
    """A decoder that says what comes next, code after code."""

    def begin(self, states: Tensor) -> tuple[Tensor, Cache]:
        """As of `AutoregressiveDecoder`."""
        ...

    def follow(self, level: int, codes: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """As of `AutoregressiveDecoder`."""
        ...


def beam_search(decoder: Steps, states: Tensor, trie: Trie, beams: int) -> tuple[Tensor, Tensor]:
    """The codes that states find likeliest, of those that items have.

    Codes that no item has are left out before the choice, not made unlikely: none can come out. Which are followed is a choice of
    the highest sums, nothing is drawn.

    Args:
        decoder: not in training.
        states: ``[B, D]``.
        trie: of the items that may be found; of one at least.
        beams: beginnings that are followed, K at most; `AT_FIRST` times as many of the first level.

    Returns:
        Scores ``[B, K]`` float32, the highest first, and leaves of the trie ``[B, K]`` int64; a score of minus infinity: none.
    """
    rows = len(states)
    scores = states.new_zeros(rows, 1, dtype=torch.float32)
    nodes = torch.zeros(rows, 1, dtype=torch.int64, device=states.device)
    log_probabilities, cache = decoder.begin(states)
    for depth in range(len(trie.sizes)):
        width = nodes.shape[1]
        # Only what follows is looked at: as many places as the node with the most has, whatever the level's size.
        children, there = trie.children(depth, nodes.flatten())
        codes, places = trie.values[depth][children], children.shape[1]
        given = torch.where(there, scores.flatten()[:, None] + log_probabilities.gather(1, codes), NEVER)
        most = AT_FIRST * beams if depth == 0 and len(trie.sizes) > 1 else beams
        scores, at = given.view(rows, -1).topk(min(most, width * places), 1)
        kept = _some(scores)
        scores, at = scores[:, :kept], at[:, :kept]
        # A beam without a child goes on as that of another item, and never comes back: it stays at minus infinity.
        nodes = children.view(rows, -1).gather(1, at)
        if depth + 1 < len(trie.sizes):
            of = (at // places + width * torch.arange(rows, device=at.device)[:, None]).flatten()
            cache = [(keys.index_select(0, of), values.index_select(0, of)) for keys, values in cache]
            codes = codes.view(rows, -1).gather(1, at).flatten()
            log_probabilities, cache = decoder.follow(depth + 1, codes, cache)
    return scores, nodes


def _some(scores: Tensor) -> int:
    """How many of the columns, which fall, hold a number in any row; one at least."""
    return max(1, int((scores > NEVER).any(0).sum()))
