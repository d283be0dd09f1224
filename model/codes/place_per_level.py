"""What decoders are made of that have a place for each level of codes."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.axes import declare, layer_norm, named
from .code_aspect import CodeEmbeddings, code_names


class PlacePerLevel(nn.Module):
    """Embeddings of codes that are known and vectors of the levels; blocks; and from a place to probabilities of its level's codes.

    Args:
        sizes: how many values each of M levels has.
        width: D.
        blocks: of attention over the places.
    """

    def __init__(self, sizes: Sequence[int], width: int, blocks: Iterable[nn.Module]):
        super().__init__()
        self.sizes = tuple(sizes)
        self.codes = CodeEmbeddings(sizes, width)
        self.levels = nn.Parameter(torch.randn(len(sizes), width) * 0.1)
        declare(self, {"levels": (named("level", map(str, range(len(sizes)))), "width")})
        self.blocks = nn.ModuleList(blocks)
        self.norm = layer_norm(width)
        self.outputs = nn.Parameter(torch.randn(sum(sizes), width) * width**-0.5)
        declare(self, {"outputs": (named("code", code_names(sizes)), "width")})

    def log_probabilities(self, places: Tensor, level: int) -> Tensor:
        """``[S, V]`` float32 of a level's values, of its places ``[S, D]`` after the blocks."""
        begin = sum(self.sizes[:level])
        return F.linear(self.norm(places), self.outputs[begin : begin + self.sizes[level]]).float().log_softmax(1)
