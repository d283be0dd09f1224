"""Rows that are spread over ranks, as metrics see them: what one rank needs to know of the rows of the others.

A metric is computed of each rank's rows, and of what comes together here: small sums, rows in the order of a value, or rows of a
group. How ranks talk is not known here; `ALONE` is one process that has all rows. Every rank calls the same methods in the same order.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from ...data.config.sections.task import Array

_T = TypeVar("_T")
Back = Callable[[Array], Array]
"""Gives values ``[M]`` of the rows that came to a rank back to those who sent them: ``[N]``, in the order of what this rank sent."""


class Spread(Protocol):
    """How the rows are spread.

    Columns that are None stay so: they are None on every rank.
    """

    @property
    def rank(self) -> int:
        """Which one this is."""
        ...

    @property
    def ranks(self) -> int:
        """How many there are."""
        ...

    def each(self, values: Array) -> Array:
        """``[R, ...]`` every rank's values ``[...]``, in rank order; of one shape and type on all of them."""
        ...

    def told(self, value: _T) -> list[_T]:
        """``[R]`` every rank's value, in rank order; a small one of any type."""
        ...

    def by_value(self, keys: Array, *columns: Any) -> tuple[list[Any], Back]:
        """Rows so that the keys of a rank are above those of the rank before, equal ones on one rank, about as many rows on each.

        Args:
            keys: ``[N]`` numbers, rising and each once; NaN is above all.
            columns: ``[N]`` each.

        Returns:
            Keys and columns ``[M]``, the rows of each sending rank after those of the one before; how to give back.
        """
        ...

    def by_group(self, groups: Array, *columns: Any) -> tuple[list[Any], Back]:
        """Rows so that those of a group are on one rank, in the order of ranks and of the rows there.

        Args:
            groups: ``[N]`` int64 or uint64.
            columns: ``[N]`` each.

        Returns:
            Groups and columns ``[M]``; how to give back.
        """
        ...


class Alone:
    """One process, which has all rows."""

    rank, ranks = 0, 1

    def each(self, values: Array) -> Array:
        """``[1, ...]``."""
        return np.asarray(values)[None]

    def told(self, value: _T) -> list[_T]:
        """The value alone."""
        return [value]

    def by_value(self, keys: Array, *columns: Any) -> tuple[list[Any], Back]:
        """As they are."""
        return [keys, *columns], lambda values: values

    def by_group(self, groups: Array, *columns: Any) -> tuple[list[Any], Back]:
        """As they are."""
        return [groups, *columns], lambda values: values


ALONE = Alone()


def total(values: Any, spread: Spread) -> Array:
    """The sum over ranks of ``[...]`` numbers, in rank order: to the bit the same on all of them."""
    return spread.each(np.asarray(values)).sum(0)


def summed(at: Array, values: Array, size: int) -> Array:
    """``[size]`` float64 sums of the values ``[N]`` at each place; of no rows too, of which `np.bincount` makes whole numbers."""
    return np.bincount(at, values, size).astype(np.float64)


def ranges(keys: Array, *sums: Array, spread: Spread) -> tuple[list[Array], Back]:
    """The distinct keys of all ranks and what belongs to each, a range of them on every rank.

    No rank is sent rows that are alike one by one, as where all labels are one of two: their sums come.

    Args:
        keys: ``[N]`` numbers, rising and each once, of this rank's rows; NaN is above all.
        sums: ``[N]`` each, of the rows that have a key.
        spread: how rows are spread.

    Returns:
        Keys ``[M]``, rising and each once, all above those of the rank before, and the sums over all ranks, of the types they have; how to
        give values ``[M]`` back to each rank's own keys ``[N]``.
    """
    if spread.ranks == 1:
        return [keys, *sums], lambda values: values
    (came, *sums_of), back = spread.by_value(keys, *sums)
    distinct, of_row = np.unique(came, return_inverse=True)
    merged = [summed(of_row, of, len(distinct)).astype(of.dtype) for of in sums_of]
    return [distinct, *merged], lambda values: back(values[of_row])
