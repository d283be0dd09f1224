"""The past items of a batch as one packed sequence per row, and the seam for what encodes them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.past import Past


@dataclass
class Sequence:
    """N past items of B rows, row after row and oldest first: no padding, so work goes into items only.

    Attributes:
        items: ``[N, D]``.
        lengths: ``[B]`` int64.
        row: ``[N]`` int64, the row of each item.
        back: ``[N]`` int64, places before the newest of its row, which is 0.
        longest: T, of ``lengths``; on the host.
    """

    items: Tensor
    lengths: Tensor
    row: Tensor
    back: Tensor
    longest: int

    @classmethod
    def of(cls, past: Past, items: Tensor, width: int) -> "Sequence":
        """Args: the batch's past, vectors ``[N, D]`` of its items, and L, the columns ``past.at`` counts."""
        row = past.at // width
        return cls(items, past.lengths, row, (row + 1) * width - 1 - past.at, past.longest)

    @property
    def rows(self) -> int:
        """B."""
        return len(self.lengths)

    @property
    def place(self) -> Tensor:
        """``[N]`` int64 place of each item in ``[B * T]``, its row's oldest in the first column."""
        return self.row * self.longest + self.lengths[self.row] - 1 - self.back

    def padded(self, values: Tensor) -> Tensor:
        """``[N, ...]`` -> ``[B, T, ...]`` with zeros behind each row's items."""
        shape = values.shape[1:]
        return (
            values.new_zeros(self.rows * self.longest, *shape)
            .index_copy(0, self.place, values)
            .view(self.rows, self.longest, *shape)
        )

    def packed(self, values: Tensor) -> Tensor:
        """``[B, T, ...]`` -> ``[N, ...]``."""
        return values.flatten(0, 1).index_select(0, self.place)

    def split_heads(self, values: Tensor, heads: int) -> Tensor:
        """``[N, 3 D]`` -> ``[3, B, H, T, D / H]``, padded: queries, keys and values of H heads."""
        size = values.shape[1] // 3 // heads
        return self.padded(values).view(self.rows, self.longest, 3, heads, size).permute(2, 0, 3, 1, 4)

    def join_heads(self, attended: Tensor) -> Tensor:
        """``[B, H, T, D / H]`` -> ``[N, D]``."""
        return self.packed(attended.transpose(1, 2).flatten(2))

    def newest(self, values: Tensor) -> Tensor:
        """``[N, D]`` -> ``[B, D]``: each row's last; zeros for a row without any."""
        behind = torch.cat([values, values.new_zeros(1, values.shape[1])])
        last = self.lengths.cumsum(0) - 1
        return behind.index_select(0, torch.where(self.lengths > 0, last, len(values)))

    def mean(self, values: Tensor) -> Tensor:
        """``[N, D]`` -> ``[B, D]``: each row's mean; zeros for a row without any."""
        sums = values.new_zeros(self.rows, values.shape[1]).index_add(0, self.row, values)
        return sums / self.lengths.clamp_min(1).unsqueeze(1)

    def with_one_more(self, last: Tensor) -> "Sequence":
        """With ``last [D]`` as the newest of every row."""
        rows = torch.arange(self.rows, device=self.row.device)
        at = torch.cat([torch.arange(len(self.row), device=self.row.device) + self.row, self.lengths.cumsum(0) + rows])
        order = torch.empty_like(at).index_copy(0, at, torch.arange(len(at), device=at.device))
        return Sequence(
            torch.cat([self.items, last.to(self.items.dtype).expand(self.rows, -1)])[order],
            self.lengths + 1,
            torch.cat([self.row, rows])[order],
            torch.cat([self.back + 1, torch.zeros_like(rows)])[order],
            self.longest + 1,
        )
