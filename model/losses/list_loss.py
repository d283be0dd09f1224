"""What a list loss is, and the rows of lists as one sees them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ...data.batch.result_lists import ResultLists
from ...data.settings_base import Strict


@dataclass(frozen=True)
class ListRows:
    """B rows in L lists, and which of them take part.

    Sums are over neighbours, so they add up in the same order every time, also on GPUs; nothing waits for a GPU.

    Attributes:
        lists: which rows make a list.
        present: ``[B]`` bool: the row has the label, and its domain the loss.
    """

    lists: ResultLists
    present: Tensor

    def sum(self, values: Tensor) -> Tensor:
        """``[B]`` -> ``[L]``, over the rows that take part."""
        return _reduce(values.masked_fill(~self.present, 0.0), "sum", self.lists.lengths)

    def max(self, values: Tensor) -> Tensor:
        """``[B]`` -> ``[L]``, over the rows that take part; -inf where none does."""
        return _reduce(values.masked_fill(~self.present, -torch.inf), "max", self.lists.lengths)

    def log_sum_exp(self, values: Tensor) -> Tensor:
        """``[B]`` -> ``[L]``, over the rows that take part; a finite number where none does."""
        most = self.max(values.detach())
        most = most.masked_fill(most == -torch.inf, 0.0)
        shifted = (values - self.spread(most)).masked_fill(~self.present, 0.0)
        return self.sum(shifted.exp()).clamp_min(0.5).log() + most  # where a row takes part, the sum is at least 1

    def spread(self, values: Tensor) -> Tensor:
        """``[L]``, without a gradient, -> ``[B]``: of each row what belongs to its list."""
        return values.detach()[self.lists.of_row]

    def differ(self, gains: Tensor) -> Tensor:
        """``[L]`` bool, whether two of the rows that take part have different gains: else there is nothing to rank."""
        return self.max(gains) > -self.max(-gains)

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """All ordered pairs of rows of a list: ``[P]`` int64 first and second, grouped by the first; and ``[B]`` how many begin
        with each row.
        """
        lengths, of_row = self.lists.lengths, self.lists.of_row
        starts = lengths.cumsum(0) - lengths
        each = lengths[of_row]
        rows = torch.arange(len(of_row), device=of_row.device)
        first = torch.repeat_interleave(rows, each, output_size=self.lists.pairs)
        place = torch.arange(self.lists.pairs, device=of_row.device) - (each.cumsum(0) - each)[first]
        return first, starts[of_row][first] + place, each


class ListLoss(Strict, ABC):
    """A loss of lists. A subclass is a kind of it; its further fields are the kind's settings.

    Attributes:
        weight: of the loss, beside the task's own of the loss of each label.
        outputs: names of further numbers that it has the model give for a row; nothing else looks at them.
    """

    outputs: ClassVar[tuple[str, ...]] = ()

    weight: float = Field(default=1.0, gt=0, description="of this loss; the task's own is of the loss of each label")

    @abstractmethod
    def loss(self, logits: Tensor, gains: Tensor, rows: ListRows, further: Tensor) -> Tensor:
        """The loss of each list, by itself: it depends on no other list.

        Args:
            logits: ``[B]`` float32, by which lists are ordered.
            gains: ``[B]`` float32, labels, at least 0; 0 where a row has none.
            rows: which rows make a list, and which of them take part.
            further: ``[B, K]`` float32, of ``outputs``.

        Returns:
            ``[L]`` float32; of lists in which gains do not differ it is not used, and has to be a finite number.
        """


def _reduce(values: Tensor, how: str, lengths: Tensor) -> Tensor:
    return torch.segment_reduce(values, how, lengths=lengths, unsafe=True)
