"""Which rows of a batch make a result list: what a list loss compares with one another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass
class ResultLists:
    """The L lists of B rows, one after another; a row that is in none is a list of its own.

    Attributes:
        of_row: ``[B]`` int64, which list a row is in.
        lengths: ``[L]`` int64, at least 1.
        pairs: the sum of the squares of the lengths, how many ordered pairs of rows are in one list; stays on the host.
    """

    of_row: Tensor
    lengths: Tensor
    pairs: int

    def changed(self, change: Callable[[Tensor], Tensor]) -> "ResultLists":
        """With ``change`` applied to all tensors."""
        return replace(self, of_row=change(self.of_row), lengths=change(self.lengths))


def result_lists(begins: Sequence[np.ndarray | None], rows: Sequence[int]) -> ResultLists | None:
    """The lists of some parts of a batch.

    Args:
        begins: of each part, ``[N]`` bool, whether a list begins with the row; None where no list is asked for.
        rows: of each part, N.

    Returns:
        None where no list is asked for in any part.
    """
    if all(of_part is None for of_part in begins):
        return None
    every = [np.ones(n, bool) if of_part is None else of_part for of_part, n in zip(begins, rows, strict=True)]
    joined = np.concatenate(every)
    lengths = np.diff(np.flatnonzero(joined), append=len(joined))
    return ResultLists(
        torch.from_numpy(np.cumsum(joined) - 1), torch.from_numpy(lengths), int((lengths * lengths).sum())
    )
