"""Rows grouped by domain: which belong to which, and what they add up to, in the same order every time, also on GPUs."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor


class DomainRows(list[int]):
    """Rows per domain, zeros included, as a list on the host, and on the device the domain of each row.

    What CPUs compute goes by the list. What GPUs compute goes by the device's part alone, so that nothing the host starts
    there changes from batch to batch; it is made once for all layers of a step.

    Attributes:
        of_row: ``[B]`` int64, non-decreasing.
    """

    def __init__(self, lengths: Sequence[int], of_row: Tensor):
        super().__init__(lengths)
        self.of_row = of_row

    @cached_property
    def members(self) -> Tensor:
        """``[B, domains]`` float32: 1 where a row is of a domain."""
        return (self.of_row[:, None] == torch.arange(len(self), device=self.of_row.device)).float()

    @cached_property
    def narrow_members(self) -> Tensor:
        """The same in bfloat16."""
        return self.members.bfloat16()

    @cached_property
    def columns(self) -> Tensor:
        """``[domains, B]``: `members`, the other way round."""
        return self.members.t()

    @cached_property
    def counts(self) -> Tensor:
        """``[domains, 1]`` float32: how many rows each has."""
        return self.columns.sum(1, keepdim=True)

    @cached_property
    def ends(self) -> Tensor:
        """``[domains]`` int32: where each domain's rows end."""
        return self.counts.view(-1).cumsum(0).int()

    @cached_property
    def _each(self) -> Tensor:
        return self.members[:, :, None]

    @cached_property
    def _each_narrow(self) -> Tensor:
        return self.narrow_members[:, :, None]

    def each(self, dtype: torch.dtype) -> Tensor:
        """``[B, domains, 1]``, `members_as`."""
        return self._each_narrow if dtype == torch.bfloat16 else self._each.to(dtype)

    def members_as(self, dtype: torch.dtype) -> Tensor:
        """`members` in a type."""
        return self.narrow_members if dtype == torch.bfloat16 else self.members.to(dtype)

    @cached_property
    def places(self) -> Tensor:
        """``[B]`` int64: where, of ``[B x domains]`` values, those of the rows' own domains stand."""
        return torch.arange(0, self.of_row.shape[0] * len(self), len(self), device=self.of_row.device) + self.of_row


def domain_rows(lengths: list[int], device: torch.device) -> DomainRows:
    """Rows per domain that may know no more than how many, as such that do."""
    if isinstance(lengths, DomainRows):
        return lengths
    rows = [domain for domain, count in enumerate(lengths) for _ in range(count)]
    return DomainRows(lengths, torch.tensor(rows, dtype=torch.int64, device=device))


def to_rows(values: Tensor, domain_lengths: list[int]) -> Tensor:
    """``[domains, ...]`` -> ``[B, ...]``, each row its domain's; the gradient adds up in the same order every time, also on GPUs.

    A choice, though a product: nothing is rounded.
    """
    with torch.autocast(values.device.type, enabled=False):
        members = domain_rows(domain_lengths, values.device).members_as(values.dtype)
        return torch.mm(members, values) if values.dim() == 2 else torch.tensordot(members, values, 1)


def domain_sums(rows: Tensor, domain_lengths: list[int]) -> Tensor:
    """``[B, K]`` float32, grouped by domain -> ``[domains, K]``, added up in the same order every time."""
    with torch.autocast(rows.device.type, enabled=False):
        return domain_rows(domain_lengths, rows.device).columns.to(rows.dtype) @ rows
