"""How often rows of a table were seen, where most of them never were."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RowCounts:
    """Counts of a table's rows, held for those alone that were seen: a billion buckets take no more memory than the ids in them.

    Attributes:
        rows: of the table.
        at: ``[K]`` uint64, the rows that were seen, increasing.
        counts: ``[K]`` int64, how often.
    """

    rows: int
    at: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray) -> "RowCounts":
        """Args: counts ``[rows]`` of all rows."""
        at = np.flatnonzero(counts)
        return cls(len(counts), at.astype(np.uint64), counts[at].astype(np.int64, copy=False))

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """``[N]`` int64 counts of rows ``[N]``."""
        if not len(self.at):
            return np.zeros(len(rows), np.int64)
        wanted = rows.astype(np.uint64)
        found = np.minimum(np.searchsorted(self.at, wanted), len(self.at) - 1)
        return np.where(self.at[found] == wanted, self.counts[found], 0)

    def plus(self, other: "RowCounts") -> "RowCounts":
        """With what another one of as many rows has counted."""
        at, where = np.unique(np.concatenate([self.at, other.at]), return_inverse=True)
        counts = np.zeros(len(at), np.int64)
        np.add.at(counts, where, np.concatenate([self.counts, other.counts]))
        return RowCounts(self.rows, at, counts)


def seen(counts: "np.ndarray | RowCounts") -> tuple[np.ndarray, np.ndarray]:
    """The rows that were seen, ``[K]`` int64 increasing, and how often each was."""
    if isinstance(counts, RowCounts):
        return counts.at.astype(np.int64), counts.counts
    at = np.flatnonzero(counts)
    return at, counts[at]
