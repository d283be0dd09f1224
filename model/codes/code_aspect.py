"""Codes as an aspect: the sum of an item's code embeddings."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.axes import declare, layer_norm, named

_SCALE = 0.1


def code_names(sizes: Sequence[int]) -> list[str]:
    """Of all values of all levels, in order: what a row of code embeddings stands for."""
    return [f"{level}/{value}" for level, size in enumerate(sizes) for value in range(size)]


class CodeEmbeddings(nn.Module):
    """Embeddings of M levels of codes, one after the other; small enough for every rank to have them.

    Attributes:
        weight: ``[V of all levels, width]``.
        starts: ``[M]`` int64, where each level begins.
    """

    starts: Tensor

    def __init__(self, sizes: Sequence[int], width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(sum(sizes), width) * _SCALE)
        declare(self, {"weight": (named("code", code_names(sizes)), "width")})
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("starts", starts, persistent=False)

    def sums(self, codes: Tensor) -> Tensor:
        """``[N, width]`` float32: of each item's codes ``[N, M]`` int64 the sum of their embeddings."""
        return F.embedding_bag(codes + self.starts, self.weight, mode="sum")


class CodeAspect(nn.Module):
    """``[N, M]`` codes, as whole numbers of any type -> ``[N, width]``, normalised as other aspects are (TIGER's items, Rajput et al.,
    2023, are sequences of such embeddings; here an item is one place, and its codes are summed)."""

    def __init__(self, sizes: Sequence[int], width: int):
        """Args: how many values each level has, and D."""
        super().__init__()
        self.embeddings = CodeEmbeddings(sizes, width)
        self.norm = layer_norm(width)

    def forward(self, codes: Tensor) -> Tensor:
        return self.norm(self.embeddings.sums(codes.long()))
