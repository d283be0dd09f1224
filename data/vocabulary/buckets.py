"""Numbers in place of ids: each goes into the bucket between two boundaries, and a bucket has a row."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..settings_base import Strict
from .key_counts import ExactCounts
from .vocabulary import read_columns


class Buckets:
    """A row for each bucket; row 0, of ids never seen, is never used.

    Attributes:
        boundaries: ``[K]`` float32, increasing; a number equal to one belongs above it.
        counts: ``[K + 2]`` int64, how many numbers of training fell into each row's bucket.
        asked: how many buckets of equal size were asked for; 0 where the boundaries were given.
    """

    encoding: ClassVar[str] = "buckets"

    def __init__(self, boundaries: np.ndarray, counts: np.ndarray, asked: int):
        """Args: boundaries ``[K]``, counts ``[K + 1]`` of the buckets, and how many were asked for."""
        self.boundaries, self.asked = as_float32(boundaries), asked
        self.counts = np.concatenate([[0], counts]).astype(np.int64)

    def fits(self, new: "Buckets") -> bool:
        """Whether both were made by the same settings."""
        return self.asked == new.asked and (self.asked > 0 or np.array_equal(self.boundaries, new.boundaries))

    def extended(self, new: "Buckets") -> "Buckets":
        """With what another one has counted, where that has the same boundaries; those of this one stay."""
        same = np.array_equal(self.boundaries, new.boundaries)
        return Buckets(self.boundaries, self.counts[1:] + (new.counts[1:] if same else 0), self.asked)

    @property
    def rows(self) -> int:
        """Rows of the table, row 0 included."""
        return len(self.counts)

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """``[N]`` float64 numbers, rounded to float32, to ``[N]`` int64 rows, never 0."""
        return np.searchsorted(self.boundaries, as_float32(keys), side="right") + 1

    def save(self, path: Path) -> None:
        """Writes upper boundary and count per bucket."""
        asked = np.full(len(self.counts) - 1, self.asked)
        columns = {"below": np.append(self.boundaries, np.inf), "count": self.counts[1:], "asked": asked}
        pq.write_table(pa.table(columns), path, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> "Buckets":
        """Reads what `save` wrote.

        Raises:
            UserError: the file is missing or damaged.
        """
        below, counts, asked = read_columns(path, {"below": pa.float64(), "count": pa.int64(), "asked": pa.int64()})
        return cls(below[:-1], counts, int(asked[0]))


class NumberCounts:
    """How often each number was seen: in buckets whose boundaries are known, else of each distinct one."""

    def __init__(self, boundaries: Sequence[float] | None, buckets: int):
        """Args: boundaries; None: as many buckets as the second says, of equal size as far as equal numbers allow."""
        self._boundaries = None if boundaries is None else as_float32(np.array(boundaries))
        self._buckets, self._distinct = buckets, ExactCounts()
        self._counts = np.zeros(0 if boundaries is None else len(boundaries) + 1, np.int64)
        self.keys_are = "numbers" if self._boundaries is None else f"buckets between {self._boundaries.tolist()}"

    def add(self, keys: np.ndarray, valid: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Counts the valid ones of ``[N]`` float64 numbers, rounded to float32, each as often as its weight says."""
        values = as_float32(keys[valid]) + np.float32(0)  # a negative zero is none
        weights = None if weights is None else weights[valid]
        if self._boundaries is None:
            self._distinct.add(values.view(np.uint32).astype(np.uint64), np.ones(len(values), bool), weights)
        else:
            self._counts += _in_buckets(self._boundaries, values, weights)

    def add_counted(self, keys: np.ndarray, counts: np.ndarray) -> None:
        """Adds ``[K]`` counts to buckets, or to numbers by their bits."""
        if self._boundaries is None:
            if keys.max(initial=0) >= 2**32:
                raise IndexError(f"{keys.max()} is not the bits of a number")
            self._distinct.add_counted(keys, counts)
        else:
            np.add.at(self._counts, keys.astype(np.int64), counts)  # several ranks may have the same bucket

    def held(self) -> tuple[np.ndarray, np.ndarray]:
        """Buckets, or the bits of distinct numbers, and their counts."""
        if self._boundaries is None:
            return self._distinct.held()
        return np.arange(len(self._counts), dtype=np.uint64), self._counts

    def table(self, min_count: int | None = None) -> Buckets:
        """The table; ``min_count`` means nothing to it."""
        if self._boundaries is not None:
            return Buckets(self._boundaries, self._counts, 0)
        distinct = self._distinct.table(min_count=1)
        values, counts = distinct.keys.astype(np.uint32).view(np.float32), distinct.counts[1:]
        shown = counts > 0
        order = np.argsort(values[shown])
        values, counts = values[shown][order], counts[shown][order]
        below = np.cumsum(counts)
        wanted = np.arange(1, self._buckets) * (below[-1] if len(below) else 0)
        # The first number with more than k / n of all up to and with it begins bucket k. One that would begin several, or that
        # is the least of all, has a bucket to itself: the next number begins another.
        at, times = np.unique(np.searchsorted(below * self._buckets, wanted, side="right"), return_counts=True)
        begin = np.union1d(at, at[(times > 1) | (at == 0)] + 1)
        boundaries = values[begin[(begin > 0) & (begin < len(values))]]
        return Buckets(boundaries, _in_buckets(boundaries, values, counts), self._buckets)


class Bucketing(Strict):
    """How numbers become rows: boundaries, or how many buckets."""

    boundaries: tuple[float, ...] | None
    buckets: int

    def counts(self) -> NumberCounts:
        """Nothing counted yet."""
        return NumberCounts(self.boundaries, self.buckets)

    def table_rows(self) -> int | None:
        """Rows of the table; of buckets that equal numbers may make fewer, the most there can be."""
        return (self.buckets if self.boundaries is None else len(self.boundaries) + 1) + 1


def as_float32(values: np.ndarray) -> np.ndarray:
    """Numbers as they are compared: 0.7 is the same one whether a file holds it in 32 bits or in 64."""
    with np.errstate(over="ignore"):  # a boundary beyond all numbers
        return values.astype(np.float32)


def _in_buckets(boundaries: np.ndarray, values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    at = np.searchsorted(boundaries, values, side="right")
    return np.bincount(at, weights, minlength=len(boundaries) + 1).astype(np.int64)
