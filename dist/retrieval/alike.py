"""How alike items are, one with many: to the bit the same in any batch and on any device."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Alike = Callable[[Tensor], Tensor]
"""Place ``[B]`` int64 in each list -> ``[B, N]`` float64 from -1 to 1, how alike the item there and each item of its list are; all on one device."""

_STEPS = float(1 << 24)
_HELD = 1 << 16  # vectors at a time


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

    def of(self, at: Tensor) -> Alike:
        """For lists of the items at positions ``[B, N]`` int64."""
        ...


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

    def of(self, at: Tensor) -> Alike:
        """As of `Likeness`."""
        at = at.to(self._vectors.device)
        rows = at if self._rows is None else self._rows.to(at.device)[at]
        there, rows = (rows >= 0).to(self.device), rows.clamp_min(0)
        vectors, lengths = self._vectors[rows].to(self.device), self._lengths[rows].to(self.device)
        units = (vectors.double() / lengths[..., None] * _STEPS).round() * there[..., None]

        def alike(place: Tensor) -> Tensor:
            own = units[torch.arange(len(units), device=units.device), place]
            return (units @ own[:, :, None])[..., 0] / _STEPS**2

        return alike


class EqualCodes:
    """The share of the codes of two items that are equal; 0 for an item without codes."""

    def __init__(self, codes: Tensor, there: Tensor):
        """Args: ``[C, M]`` int16; and ``[C]`` bool, which items have codes."""
        self._codes, self._there, self.device = codes, there.to(codes.device), codes.device

    @property
    def width(self) -> int:
        """M."""
        return self._codes.shape[1]

    def of(self, at: Tensor) -> Alike:
        """As of `Likeness`."""
        at = at.to(self._codes.device)
        codes, there = self._codes[at], self._there[at]

        def alike(place: Tensor) -> Tensor:
            row = torch.arange(len(codes), device=codes.device)
            equal = (codes == codes[row, place][:, None]).sum(2)
            return (equal * (there & there[row, place][:, None])).double() / codes.shape[2]

        return alike
