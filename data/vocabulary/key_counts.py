"""Counting the ids of a column, and the table rows they get."""

from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from ..arrow.ids import hash_rows
from .row_counts import RowCounts
from .vocabulary import HashedIds, Vocabulary

_SMALL_KEYS = 1 << 23  # keys below it are counted in an array
_PENDING = 1_000_000


class Table(Protocol):
    """What gives ids, or numbers, rows of an embedding table.

    Attributes:
        encoding: names the way of doing so, in a run's statistics.
    """

    encoding: ClassVar[str]

    @property
    def counts(self) -> np.ndarray | RowCounts:
        """``[rows]`` int64, how often training shows what has the row."""
        ...

    @property
    def rows(self) -> int:
        """Rows of the table, row 0 included."""
        ...

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """``[N]`` keys to ``[N]`` rows."""
        ...

    def fits(self, new: Any) -> bool:
        """Whether `extended` means something, of another one of its class."""
        ...

    def extended(self, new: Any) -> "Table":
        """Made fit for what another one has counted; what had a row keeps it."""
        ...

    def save(self, path: Path) -> None:
        """Writes it."""
        ...


class KeyCounts(Protocol):
    """What counts ids, or numbers, that come in parts."""

    @property
    def keys_are(self) -> str:
        """What it holds as keys, in words that differ where its settings make other ones."""
        ...

    def add(self, keys: np.ndarray, valid: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Counts the valid ones of ``[N]`` keys, each as often as its weight says."""
        ...

    def add_counted(self, keys: np.ndarray, counts: np.ndarray) -> None:
        """Adds what another one has `held`."""
        ...

    def held(self) -> tuple[np.ndarray, np.ndarray]:
        """What has been counted: ``[K]`` uint64 of its own, each once, and ``[K]`` int64, how often."""
        ...

    def table(self, min_count: int | None = None) -> Table:
        """The table of what has been counted."""
        ...


class ExactCounts:
    """Counts of keys: small ones in an array, the others sorted, merged whenever what is pending outgrows what is merged."""

    keys_are = "ids"

    def __init__(self, min_count: int = 1):
        self._min_count = min_count
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self._merged, self._pending = 0, 0
        self._small, self._small_keys, self._small_pending = np.zeros(0, np.int64), [], 0

    def add(self, keys: np.ndarray, valid: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Counts the valid ones of ``[N]`` uint64 keys, each as often as its weight says."""
        keys = keys[valid]
        weights = None if weights is None else weights[valid]
        if weights is None and keys.max(initial=0) < _SMALL_KEYS:
            self._small_keys.append(keys)
            self._small_pending += len(keys)
            if self._small_pending > _PENDING:
                self._count_small()
            return
        self.add_counted(*_unique_counts(keys, weights))

    def add_counted(self, keys: np.ndarray, counts: np.ndarray) -> None:
        """Adds ``[K]`` keys, each once, with their counts."""
        self._parts.append((keys, counts))
        self._pending += len(keys)
        if self._pending > max(self._merged, _PENDING):
            self._merge()

    def _count_small(self) -> None:
        keys = np.concatenate(self._small_keys).view(np.int64)
        counts = np.bincount(keys, minlength=len(self._small))
        counts[: len(self._small)] += self._small
        self._small, self._small_keys, self._small_pending = counts, [], 0

    def _merge(self) -> None:
        if len(self._parts) < 2:
            return
        keys, counts = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        self._parts = [_unique_counts(keys, counts)]
        self._merged, self._pending = len(self._parts[0][0]), 0

    def held(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys, increasing, and their counts."""
        if self._small_keys:
            self._count_small()
        if self._small.any():
            keys = np.flatnonzero(self._small)
            self._parts.append((keys.astype(np.uint64), self._small[keys]))
            self._small = np.zeros(0, np.int64)
        if not self._parts:
            return np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self._merge()
        return self._parts[0]

    def table(self, min_count: int | None = None) -> Vocabulary:
        """The table of the keys counted at least ``min_count`` times, else as often as the settings ask."""
        return Vocabulary.from_counts(*self.held(), min_count or self._min_count)


class HashedCounts:
    """Counts of hashed keys, per row of those that are hit."""

    def __init__(self, buckets: int):
        self._buckets, self._rows = buckets, ExactCounts()
        self.keys_are = f"rows of {buckets:,} buckets"

    def add(self, keys: np.ndarray, valid: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Counts the valid ones of ``[N]`` uint64 keys, each as often as its weight says."""
        rows = hash_rows(keys[valid], self._buckets).astype(np.uint64)
        self._rows.add(rows, np.ones(len(rows), bool), None if weights is None else weights[valid])

    def add_counted(self, keys: np.ndarray, counts: np.ndarray) -> None:
        """Adds ``[K]`` counts to rows.

        Raises:
            IndexError: the table has no such row.
        """
        if len(keys) and not 1 <= keys.min() <= keys.max() <= self._buckets:
            raise IndexError(f"rows {keys.min()} to {keys.max()} of {self._buckets + 1}")
        self._rows.add_counted(keys, counts)

    def held(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows that were hit, increasing, and their counts."""
        rows, counts = self._rows.held()
        order = np.argsort(rows, kind="stable")  # several ranks give theirs one after the other
        order = order[counts[order] > 0]
        return rows[order], counts[order]

    def table(self, min_count: int | None = None) -> HashedIds:
        """The table; every key has a row, so ``min_count`` means nothing to it."""
        return HashedIds(RowCounts(self._buckets + 1, *self.held()))


def _unique_counts(keys: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    if weights is None:
        return np.unique(keys, return_counts=True)
    distinct, inverse = np.unique(keys, return_inverse=True)
    # Sums are floats, but whole, and exact up to 2**53.
    return distinct, np.bincount(inverse, weights, minlength=len(distinct)).astype(np.int64)
