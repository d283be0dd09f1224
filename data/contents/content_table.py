"""The vectors of a content by row, and which row each id has: of a store, or of a catalog that holds vectors."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..vocabulary.vocabulary import KeyIndex


@dataclass(frozen=True)
class ContentTable:
    """A content of many entities.

    Attributes:
        vectors: ``[N, size]``, float16 over a mapped file, or float32.
        index: of the ids that may have one.
        row_of_key: ``[K]`` int64 rows of ``vectors``, in the order of the index; -1 for none.
    """

    vectors: Tensor
    index: KeyIndex
    row_of_key: np.ndarray

    def rows(self, keys: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """``[N]`` int64 rows for id keys ``[N]``; -1 where there is no vector, or the id is not valid."""
        if len(self.row_of_key) == 0:
            return np.full(len(keys), -1, np.int64)
        at = self.index.lookup(keys)
        return np.where((at >= 0) if valid is None else valid & (at >= 0), self.row_of_key[at], -1)


def picked(vectors: Tensor, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """``[N, size]`` vectors of int64 rows ``[N]``, zeros for -1; and ``[N]`` bool, which of them there are."""
    at = torch.from_numpy(rows)
    present = at >= 0
    return vectors[at.clamp(min=0)] * present.unsqueeze(1), present
