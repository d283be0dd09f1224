"""How alike items are, each with each of a list: to the bit the same in any batch and on any device."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

_STEPS = float(1 << 24)
_HELD = 1 << 16  # vectors at a time
_CELLS = 1 << 21  # numbers of lists at a time, which stay in a processor's caches
_ON_GPU = 32  # times as many, since what is started there takes as long for few


class Likeness(Protocol):
    """Says of C items how alike they are."""

    @property
    def width(self) -> int:
        """How many numbers it looks at of an item."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def of(self, at: Tensor) -> Tensor:
        """``[B, N, N]`` float64 from -1 to 1, how alike the items at positions ``[B, N]`` int64 are, each with each of its list."""
        ...


def some_lists(at: Tensor, likeness: Likeness) -> Iterator[tuple[slice, Tensor]]:
    """Which of the lists ``at [B, N]``, and `Likeness.of` these: so many at a time that what is held of them has a bound, 8 N^2 bytes of
    one list aside."""
    cells = _CELLS if likeness.device.type == "cpu" else _ON_GPU * _CELLS
    size = max(1, cells // max(1, at.shape[1] * max(at.shape[1], likeness.width)))
    for start in range(0, len(at), size):
        part = slice(start, start + size)
        yield part, likeness.of(at[part])


class Cosines:
    """The cosines of items' vectors; 0 for an item without one.

    Components are whole multiples of 2^-24, of which products and their sums are exact in float64. So they are the same in whatever order,
    batch or shape a matrix product adds them up.
    """

    def __init__(self, vectors: Tensor, rows: Tensor | None = None, device: torch.device | None = None):
        """Args: vectors ``[R, D]`` of any float type; ``[C]`` int64 row of each item, -1 for none, where items are not the rows; where to
        compute, if that is not where the vectors are."""
        self._vectors, self._rows = vectors, rows
        self.device = vectors.device if device is None else device
        parts = [vectors[at : at + _HELD].double().norm(dim=1) for at in range(0, len(vectors), _HELD)]
        lengths = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
        self._lengths = torch.where(lengths > 0, lengths, 1)

    @property
    def width(self) -> int:
        """D."""
        return self._vectors.shape[1]

    def of(self, at: Tensor) -> Tensor:
        """As of `Likeness`."""
        at = at.to(self._vectors.device)
        rows = at if self._rows is None else self._rows.to(at.device)[at]
        there, rows = (rows >= 0).to(self.device), rows.clamp_min(0)
        vectors, lengths = self._vectors[rows].to(self.device), self._lengths[rows].to(self.device)
        units = (vectors.double() / lengths[..., None] * _STEPS).round() * there[..., None]
        return units @ units.transpose(1, 2) / _STEPS**2


class EqualCodes:
    """The share of the codes of two items that are equal; 0 for an item without codes."""

    def __init__(self, codes: Tensor, there: Tensor):
        """Args: ``[C, M]`` int16; and ``[C]`` bool, which items have codes."""
        self._codes, self._there, self.device = codes, there.to(codes.device), codes.device

    @property
    def width(self) -> int:
        """M."""
        return self._codes.shape[1]

    def of(self, at: Tensor) -> Tensor:
        """As of `Likeness`."""
        at = at.to(self.device)
        codes, there = self._codes[at], self._there[at]
        equal = torch.zeros(*at.shape, at.shape[1], dtype=torch.float64, device=self.device)
        for of_level in codes.unbind(2):
            equal += of_level[:, :, None] == of_level[:, None, :]
        return equal * (there[:, :, None] & there[:, None, :]) / codes.shape[2]
