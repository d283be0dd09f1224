"""What gates have in common: a softmax over present aspects, and the weighted sum of aspects; and what needs no gate."""

from collections.abc import Sequence

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


def stacked(found: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """What a gate takes, ``[N, A, D]`` float32 and ``[N, A]`` bool, of aspects ``[N, D]`` and where they are present, ``[N]``."""
    return torch.stack([aspect.float() for aspect, _ in found], 1), torch.stack([present for _, present in found], 1)


def alone(aspect: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """What a gate would give of one aspect, which needs no choosing: ``[N, D]`` float32 and its weight ``[N, 1]``.

    ``present`` ``[N]`` bool, None where it is in all rows.
    """
    if present is None:
        return aspect.float(), torch.ones(len(aspect), 1, device=aspect.device)
    there = present.unsqueeze(1)
    return aspect.float() * there, there.float()
