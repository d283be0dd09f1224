"""Rows grouped by domain: which belong to which, and what they add up to, in the same order every time, also on GPUs."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class once:  # as `property` is written
    """A property that is worked out when it is first asked for. As functools' of Python 3.12: earlier ones take a lock, which
    torch.compile does not know.
    """

    def __init__(self, compute: Callable[[Any], Tensor]):
        self._compute, self.__doc__ = compute, compute.__doc__

    def __get__(self, of: Any, kind: Any = None) -> Any:
        if of is None:
            return self
        value = of.__dict__[self._compute.__name__] = self._compute(of)
        return value


class DomainRows(list[int]):
    """Rows per domain, zeros included, as a list on the host, and on the device the domain of each row.

    What CPUs compute goes by the list. What GPUs compute goes by the device's part alone, so that nothing the host starts
    there changes from batch to batch; it is made once for all layers of a step.

    Attributes:
        of_row: ``[B]`` int64, non-decreasing.
        on_host: whether the list says how many rows each has.
    """

    def __init__(self, lengths: Sequence[int], of_row: Tensor, marks: Tensor | None = None):
        """Args: both, and, where the last rows are padding, ``[B]`` int64 as ``of_row`` but the number of domains for these."""
        super().__init__(lengths)
        self.of_row, self._marks, self.on_host = of_row, of_row if marks is None else marks, marks is None

    @classmethod
    def on_device(cls, domains: int, marks: Tensor) -> "DomainRows":
        """Of ``domains`` whose rows only the device knows. Forms for GPUs ask for no more; on the host a split by them is an error.

        Args:
            domains: how many.
            marks: ``[B]`` int64, non-decreasing: the domain of each row, or ``domains`` for padding, which is of none.
        """
        return cls([-1] * domains, marks.clamp_max(domains - 1), marks)._worked_out()

    def as_one(self) -> "DomainRows":
        """The same rows, of one domain all of them."""
        rows = DomainRows([len(self.of_row)], torch.zeros_like(self.of_row))
        return rows if self._marks is self.of_row else rows._worked_out()

    def _worked_out(self) -> "DomainRows":
        """Itself, with all that layers ask for: what would be worked out in torch.compile's trace of one is lost behind that."""
        for each in (self.members, self.narrow_members, self.columns, self.counts, self.ends, self.places):
            assert each is not None
        for dtype in (torch.float32, torch.bfloat16):
            self.each(dtype)
        return self

    @once
    def members(self) -> Tensor:
        """``[B, domains]`` float32: 1 where a row is of a domain."""
        return (self._marks[:, None] == torch.arange(len(self), device=self.of_row.device)).float()

    @once
    def narrow_members(self) -> Tensor:
        """The same in bfloat16."""
        return self.members.bfloat16()

    @once
    def columns(self) -> Tensor:
        """``[domains, B]``: `members`, the other way round."""
        return self.members.t()

    @once
    def counts(self) -> Tensor:
        """``[domains, 1]`` float32: how many rows each has."""
        return self.columns.sum(1, keepdim=True)

    @once
    def ends(self) -> Tensor:
        """``[domains]`` int32: where each domain's rows end."""
        return self.counts.view(-1).int().cumsum(0, dtype=torch.int32)  # of floats GPUs have no order to add them up in

    @once
    def _each(self) -> Tensor:
        return self.members[:, :, None]

    @once
    def _each_narrow(self) -> Tensor:
        return self.narrow_members[:, :, None]

    def each(self, dtype: torch.dtype) -> Tensor:
        """``[B, domains, 1]``, `members_as`."""
        return self._each_narrow if dtype == torch.bfloat16 else self._each.to(dtype)

    def members_as(self, dtype: torch.dtype) -> Tensor:
        """`members` in a type."""
        return self.narrow_members if dtype == torch.bfloat16 else self.members.to(dtype)

    @once
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
