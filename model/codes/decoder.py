"""What decoders of codes are: from a state of the past to log-probabilities of the next item's codes."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Others:
    """K items that others are told from.

    Attributes:
        codes: ``[K, M]`` int64.
        weights: ``[K]`` float32 of each in the softmax; 0: it is none.
    """

    codes: Tensor
    weights: Tensor


class Decoder(Protocol):
    """Predicts M codes. Its settings build it: ``build(sizes, width, shared)``, where ``shared`` says whether embeddings will be given.

    ``embeddings`` are those of an aspect that has the codes, ``[V of all levels, D]``; None where none has. A decoder takes them in place of
    embeddings of its own, or does without them.

    Attributes:
        sizes: how many values each level has.
    """

    sizes: tuple[int, ...]

    def losses(self, states: Tensor, codes: Tensor, smoothing: float, embeddings: Tensor | None = None) -> Tensor:
        """``[S]`` float32 cross entropies, the mean over levels: of states ``[S, D]`` and what each is to find, ``[S, M]`` int64.

        Args:
            smoothing: share of each target that is spread evenly over all values of a level.
        """
        ...

    def group_scores(self, states: Tensor, codes: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """``[B, G]`` float32 log-probabilities of G items' codes ``[B, G, M]`` int64, given states ``[B, D]``: what a ranking scores them by."""
        ...

    def of_user(self, states: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """``[B, U]`` float32: what a ranking needs to know of a user, of states ``[B, D]``."""
        ...
