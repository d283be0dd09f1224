"""What gates have in common: a softmax over present aspects, and the weighted sum of aspects."""

import torch
from torch import Tensor


def masked_softmax(scores: Tensor, present: Tensor) -> Tensor:
    """Softmax over the last axis among ``present``; 0 elsewhere, and all 0 where nothing is present.

    Args:
        scores: ``[B, A]`` float32.
        present: ``[B, A]`` bool.
    """
    # The lowest finite number, not -inf: a row of -inf alone would be NaN, and so would its gradient.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~present, lowest).softmax(-1) * present


def fuse(aspects: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of the aspects: ``[B, A, D]``, ``[B, A]`` -> ``[B, D]``."""
    return (aspects * weights.unsqueeze(-1)).sum(1)
