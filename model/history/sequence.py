"""The past items of a batch as one packed sequence per row, and the seam for what encodes them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ...data.batch.past_items import Past
from ..layers.fast import fast_on_cpu

PastFeatures = Annotated[
    tuple[str, ...],
    Field(
        description="features of the item catalog for past items and candidates; a categorical or list one costs as many lookups as the ids"
    ),
]
"""A setting of encoders of sequences, which read it before they build: ``features``."""

_SHORT = 8  # rows up to this length are padded together


@dataclass
class Sequence:
    """N past items of B rows, row after row and oldest first: no padding, so work goes into items only.

    Attributes:
        items: ``[N, D]``.
        lengths: ``[B]`` int64.
        row: ``[N]`` int64, the row of each item.
        back: ``[N]`` int64, places before the newest of its row, which is 0.
        longest: T, of ``lengths``; on the host.
        ages: ``[N]`` int64 seconds before the row's event; zeros where times have no part.
        attention: ``[N, D]`` the items and ``[B, D]`` the rows' own, as attention alone sees them; None: as all else does.
        in_prefix: ``[N]`` bool, which are no past items but places of a prefix, as of `with_prefix`; None: there is no prefix.
        prefixed: how many these are.
    """

    items: Tensor
    lengths: Tensor
    row: Tensor
    back: Tensor
    longest: int
    ages: Tensor
    attention: tuple[Tensor, Tensor] | None = None
    in_prefix: Tensor | None = None
    prefixed: int = 0

    @classmethod
    def of(cls, past: Past, items: Tensor, width: int) -> "Sequence":
        """Args: the batch's past, vectors ``[N, D]`` of its items, and L, the columns ``past.at`` counts."""
        row = past.at // width
        return cls(
            items,
            past.lengths,
            row,
            (row + 1) * width - 1 - past.at,
            past.longest,
            past.ages,
        )

    @property
    def rows(self) -> int:
        """B."""
        return len(self.lengths)

    @property
    def past_items(self) -> int:
        """How many places are past items."""
        return len(self.row) - self.prefixed

    @cached_property
    def groups(self) -> "list[RowGroup]":
        """All rows, as groups to be padded each to its own longest.

        On CPUs rows of about the same length go together, as work within attention grows with the square of the longest. On
        GPUs all are one group: how long the groups are would have to be waited for.
        """
        if not fast_on_cpu(self.items) or self.longest <= _SHORT:
            return [self.one_group]
        groups, bound, taken = [], _SHORT, torch.zeros_like(self.lengths, dtype=torch.bool)
        while not taken.all():
            mine = (self.lengths <= bound) & ~taken
            taken, bound = taken | mine, 2 * bound
            if not mine.any():
                continue
            lengths = self.lengths[mine]
            longest = max(1, int(lengths.max()))
            at = mine[self.row].nonzero()[:, 0]
            row_in_group = mine.cumsum(0) - 1
            groups.append(RowGroup(lengths, row_in_group[self.row[at]] * longest + self._since_oldest[at], longest, at))
        return groups

    @property
    def one_group(self) -> "RowGroup":
        """All rows, padded to the longest of all."""
        return RowGroup(self.lengths, self.row * self.longest + self._since_oldest, self.longest)

    @property
    def _since_oldest(self) -> Tensor:
        return self.lengths[self.row] - 1 - self.back

    def over_groups(self, values: Tensor, attend: "Callable[[RowGroup, Tensor], Tensor]") -> Tensor:
        """``[N, C]`` -> ``[N, D]``: what ``attend`` makes of the padded rows of each group, ``[R, T, C]`` -> ``[R, T, D]``."""
        parts = [group.packed(attend(group, group.padded(values))) for group in self.groups]
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts).index_select(0, self._in_groups)

    @cached_property
    def _in_groups(self) -> Tensor:
        """``[N]``: where each item is when the groups follow each other."""
        order = torch.cat([group.at for group in self.groups if group.at is not None])
        return torch.empty_like(order).index_copy_(0, order, torch.arange(len(order)))

    def newest(self, values: Tensor) -> Tensor:
        """``[N, D]`` -> ``[B, D]``: each row's last; zeros for a row without any."""
        return self.last_of(values, 1)[:, 0]

    def mean(self, values: Tensor) -> Tensor:
        """``[N, D]`` -> ``[B, D]``: each row's mean; zeros for a row without any."""
        sums = values.new_zeros(self.rows, values.shape[1]).index_add(0, self.row, values)
        return sums / self.lengths.clamp_min(1).unsqueeze(1)

    def last_of(self, values: Tensor, many: int) -> Tensor:
        """``[N, D]`` -> ``[B, many, D]``: each row's last ones, the newest behind the others; zeros where a row has fewer."""
        behind = torch.cat([values, values.new_zeros(1, values.shape[1])])
        back = torch.arange(many - 1, -1, -1, device=self.lengths.device)
        at = self.lengths.cumsum(0)[:, None] - 1 - back
        return behind[torch.where(self.lengths[:, None] > back, at, len(values))]

    def with_one_more(self, last: Tensor) -> "Sequence":
        """With ``last [D]`` as the newest of every row."""
        return self.with_more(last.expand(self.rows, 1, -1))

    def with_more(self, block: Tensor) -> "Sequence":
        """With ``block [B, m, D]`` behind the items of its row, the last of them as the newest."""
        many, device = block.shape[1], self.row.device
        rows = torch.arange(self.rows, device=device)
        each = torch.arange(many, device=device)
        begin = self.lengths.cumsum(0) + many * rows
        at = torch.cat(
            [torch.arange(len(self.row), device=device) + many * self.row, (begin[:, None] + each).flatten()]
        )
        order = torch.empty_like(at).index_copy(0, at, torch.arange(len(at), device=device))
        return Sequence(
            torch.cat([self.items, block.to(self.items.dtype).flatten(0, 1)])[order],
            self.lengths + many,
            torch.cat([self.row, rows.repeat_interleave(many)])[order],
            torch.cat([self.back + many, each.flip(0).repeat(self.rows)])[order],
            self.longest + many,
            torch.cat([self.ages, self.ages.new_zeros(many * self.rows)])[order],
        )

    def with_prefix(self, places: Tensor, there: Tensor) -> "Sequence":
        """With further places before each row's oldest item; a prefix is of now, whatever the ages of items.

        Args:
            places: ``[B, K, D]``, first to last.
            there: ``[B, K]`` bool, which of them a row has.
        """
        kinds, many = there.shape[1], there.sum(1)
        before = many.cumsum(0)
        lengths = self.lengths + many
        row, kind = there.nonzero(as_tuple=True)  # a GPU is waited for: how many there are decides shapes
        rank = there.cumsum(1)[row, kind] - 1
        first = lengths.cumsum(0) - lengths
        at = torch.cat([torch.arange(len(self.row), device=row.device) + before[self.row], first[row] + rank])
        order = torch.empty_like(at).index_copy(0, at, torch.arange(len(at), device=at.device))
        zeros = torch.zeros_like(row)
        longest = self.longest + kinds
        if fast_on_cpu(self.items):
            longest = int(lengths.max()) if len(lengths) else 1
        return replace(
            self,
            items=torch.cat([self.items, places[row, kind].to(self.items.dtype)])[order],
            lengths=lengths,
            row=torch.cat([self.row, row])[order],
            back=torch.cat([self.back, lengths[row] - 1 - rank])[order],
            longest=max(1, longest),
            ages=torch.cat([self.ages, zeros])[order],
            in_prefix=order >= len(self.row),
            prefixed=len(row),
        )


@dataclass
class RowGroup:
    """R rows of a sequence, to be padded to the longest of them.

    Attributes:
        lengths: ``[R]`` int64.
        place: ``[n]`` int64 place of each of their items in ``[R * T]``, its row's oldest in the first column.
        longest: T.
        at: ``[n]`` int64, which of the sequence's items they are; None: all, in their order.
        intervals: ``[R, T, T]`` int64 buckets of the times between places, which all layers share; None until a layer asks.
    """

    lengths: Tensor
    place: Tensor
    longest: int
    at: Tensor | None = None
    intervals: Tensor | None = None

    def padded(self, values: Tensor) -> Tensor:
        """``[N, ...]`` -> ``[R, T, ...]`` with zeros behind each row's items."""
        mine = values if self.at is None else values.index_select(0, self.at)
        rows, shape = len(self.lengths), values.shape[1:]
        # In place: a copy of the zeros would be as large as what is padded.
        return (
            mine.new_zeros(rows * self.longest, *shape)
            .index_copy_(0, self.place, mine)
            .view(rows, self.longest, *shape)
        )

    def packed(self, values: Tensor) -> Tensor:
        """``[R, T, ...]`` -> ``[n, ...]``."""
        return values.flatten(0, 1).index_select(0, self.place)


@dataclass
class ToFind:
    """What an encoder learns to find.

    Attributes:
        states: ``[S, D]``.
        target: ``[S]`` int64, what each is to find: a position among the N past items and the B rows' own behind them; -1 for nothing.
        steps: behind how many times B of the states steps of reasoning are, step after step; 0: there are none.
        beside: what else is learned, summed over rows, given candidates ``[M, D]`` and ``[B]`` 0 or 1 for rows that seek among them, of
            each pool; ``[B]`` 0 or 1 for rows that count; and the scale of scores. None: nothing.
    """

    states: Tensor
    target: Tensor
    steps: int = 0
    beside: Callable[[Iterable[tuple[Tensor, Tensor]], Tensor, float], Tensor] | None = None


def split_heads(values: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """``[R, T, 3 D]`` -> queries, keys and values of H heads, ``[R, H, T, D / H]`` each."""
    rows, longest, width = values.shape
    queries, keys, of_keys = values.view(rows, longest, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4)
    return queries, keys, of_keys


def join_heads(attended: Tensor) -> Tensor:
    """``[R, H, T, D / H]`` -> ``[R, T, D]``."""
    return attended.transpose(1, 2).flatten(2)
