"""From id keys to table rows."""

from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..arrow.ids import hash_rows
from ..errors import UserError, one_line
from ..storage.parquet_memory import READ_ERRORS, check_size
from .row_counts import RowCounts

REMEDY = "Restore the run from a copy, or train it again."


class KeyIndex:
    """Positions of keys in an array of distinct keys, counted from ``first``; ``first - 1`` is that of every other key."""

    # A lookup array is worth its memory while the integer ids fill at least this share of their range.
    _DENSE_SHARE = 1 / 16

    def __init__(self, keys: np.ndarray, first: int = 0, positions: np.ndarray | None = None):
        """Args: keys ``[N]`` uint64, distinct; position of the first; those of all, from there on, where they are not the next ones."""
        positions = np.arange(first, first + len(keys)) if positions is None else positions
        self._type = np.int32 if positions.max(initial=0) < 2**31 - 1 else np.int64
        self._missing = first - 1
        self._table: np.ndarray | None = None
        self._smallest = keys.min() if len(keys) else np.uint64(0)
        span = int(keys.max() - self._smallest) + 1 if len(keys) else 0
        if 0 < span <= len(keys) / self._DENSE_SHARE:
            self._table = np.full(span + 1, self._missing, self._type)  # the last entry is that of every key outside
            self._table[(keys - self._smallest).astype(np.int64)] = positions
        else:
            order = np.argsort(keys)
            self._sorted, self._position = keys[order], positions[order].astype(self._type)

    @classmethod
    def of_arrays(cls, smallest: int | None, keys: np.ndarray, positions: np.ndarray, first: int) -> "KeyIndex":
        """What `arrays` gave, which may be mapped from a file."""
        index = cls(np.zeros(0, np.uint64), first)
        index._type = positions.dtype.type
        if smallest is None:
            index._sorted, index._position = keys, positions
        else:
            index._smallest, index._table = np.uint64(smallest), positions
        return index

    def arrays(self) -> tuple[int | None, np.ndarray, np.ndarray]:
        """The smallest key and an entry for each from it on; or None, keys in order and their positions."""
        if self._table is not None:
            return int(self._smallest), np.zeros(0, np.uint64), self._table
        return None, self._sorted, self._position

    def keys(self) -> np.ndarray:
        """The keys in the order of their positions, ``[N]`` uint64."""
        if self._table is None:
            keys, positions = self._sorted, self._position
        else:
            there = np.flatnonzero(self._table != self._missing)
            keys, positions = there.astype(np.uint64) + self._smallest, self._table[there]
        if positions.max(initial=self._missing) > self._missing + len(keys):  # some are nobody's
            return keys[np.argsort(positions)]
        out = np.zeros(len(keys), np.uint64)
        out[positions - (self._missing + 1)] = keys
        return out

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """``[N]`` uint64 keys to ``[N]`` int32 (or int64) positions."""
        if self._table is not None:
            at = keys - self._smallest  # wraps round for smaller keys, which so land outside
            np.minimum(at, np.uint64(len(self._table) - 1), out=at)
            return np.take(self._table, at.view(np.int64), mode="clip")  # nothing to clip, and nothing to check
        if len(self._sorted) == 0:
            return np.full(len(keys), self._missing, self._type)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return np.where(self._sorted[at] == keys, self._position[at], self._type(self._missing))


class Vocabulary:
    """Exact rows for the ids seen in training; row 0 is every other id's.

    Attributes:
        index: from keys to rows, from 1 on.
        counts: ``[rows]`` int64, how often each row's id was seen in training; 0 for row 0.
    """

    encoding: ClassVar[str] = "vocab"

    def __init__(self, keys: np.ndarray, counts: np.ndarray):
        """Args: keys ``[N]`` uint64 of rows 1..N, counts ``[N]`` of the same rows."""
        self.index = KeyIndex(keys.astype(np.uint64), first=1)
        self.counts = np.concatenate([[0], counts]).astype(np.int64)

    @classmethod
    def of_index(cls, index: KeyIndex, counts: np.ndarray) -> "Vocabulary":
        """Args: the index of its keys, from 1 on; counts ``[rows]`` int64, with that of row 0. Both may be mapped from files."""
        vocabulary = cls(np.zeros(0, np.uint64), np.zeros(0, np.int64))
        vocabulary.index, vocabulary.counts = index, counts
        return vocabulary

    @classmethod
    def of_rows(cls, keys: np.ndarray, owned: np.ndarray, counts: np.ndarray) -> "Vocabulary":
        """Args: of each row its key, ``[rows]`` uint64, whether it has one, and its count, ``[rows]`` int64; row 0 has none."""
        at = np.flatnonzero(owned)
        return cls.of_index(KeyIndex(keys[at], first=1, positions=at), counts)

    @classmethod
    def from_counts(cls, keys: np.ndarray, counts: np.ndarray, min_count: int) -> "Vocabulary":
        """Keeps keys counted at least ``min_count`` times; the most frequent come first."""
        kept = counts >= min_count
        keys, counts = keys[kept], counts[kept]
        by_key = np.argsort(keys, kind="stable")  # quick where they are sorted already
        keys, counts = keys[by_key], counts[by_key]
        rarity = counts.max(initial=0) - counts
        # Sixteen bits are sorted by their digits, several times as fast.
        order = np.argsort(rarity.astype(np.uint16) if rarity.max(initial=0) < 2**16 else rarity, kind="stable")
        return cls(keys[order], counts[order])

    def fits(self, new: "Vocabulary") -> bool:
        """Whether another one's ids may come after its own: they may."""
        return True

    def extended(self, new: "Vocabulary") -> "Vocabulary":
        """With the ids of another one after its own, which keep their rows; what both have counted is added up."""
        at = self.lookup(new.keys)
        counts = self.counts.copy()
        counts[at[at > 0]] += new.counts[1:][at > 0]
        return Vocabulary(
            np.concatenate([self.keys, new.keys[at == 0]]), np.concatenate([counts[1:], new.counts[1:][at == 0]])
        )

    def changed(self, before: "Vocabulary") -> tuple[np.ndarray, np.ndarray]:
        """Against one that it extends: rows that ids have given up since, ``[K]`` int64, and rows that belong to ids which had none."""
        return np.zeros(0, np.int64), np.arange(before.rows, self.rows)

    @property
    def keys(self) -> np.ndarray:
        """``[K]`` uint64 keys of rows 1 and later, in their order, made anew each time."""
        return self.index.keys()

    @property
    def rows(self) -> int:
        """Rows of the table, the unknown row included."""
        return len(self.counts)

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """``[N]`` uint64 keys to ``[N]`` int32 (or int64) rows; 0 for an id not in the vocabulary."""
        return self.index.lookup(keys)

    def save(self, path: Path) -> None:
        """Writes key and count per row, rows 1.. in order."""
        pq.write_table(pa.table({"key": self.keys, "count": self.counts[1:]}), path, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Reads what `save` wrote.

        Raises:
            UserError: the file is missing or damaged.
        """
        keys, counts = read_columns(path, {"key": pa.uint64(), "count": pa.int64()})
        if len(np.unique(keys)) < len(keys):
            raise damaged(path, "a key is there twice")
        return cls(keys, counts)


class HashedIds:
    """Rows by stable hashing, for id spaces too large or too volatile to count exactly.

    Attributes:
        counts: how often each row was hit in training.
    """

    encoding: ClassVar[str] = "hash"

    def __init__(self, counts: RowCounts):
        self.counts = counts

    def fits(self, new: "HashedIds") -> bool:
        """Whether another one gives ids the same rows."""
        return self.rows == new.rows

    def extended(self, new: "HashedIds") -> "HashedIds":
        """With what another one of the same number of rows has counted."""
        return HashedIds(self.counts.plus(new.counts))

    @property
    def rows(self) -> int:
        """Rows of the table, the unknown row (never used) included."""
        return self.counts.rows

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """``[N]`` uint64 keys to ``[N]`` int64 rows, never 0."""
        return hash_rows(keys, self.rows - 1)

    def save(self, path: Path) -> None:
        """Writes row and count of those that were hit, and of the last one, hit or not, which says how many there are."""
        last = np.array([self.rows - 1], np.uint64)
        at = self.counts.at if last[0] in self.counts.at[-1:] else np.concatenate([self.counts.at, last])
        counts = np.concatenate([self.counts.counts, np.zeros(len(at) - len(self.counts.at), np.int64)])
        pq.write_table(pa.table({"row": at, "count": counts}), path, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> "HashedIds":
        """Reads what `save` wrote, or what older versions did: the counts of all rows.

        Raises:
            UserError: the file is missing or damaged.
        """
        with suppress(FileNotFoundError, *READ_ERRORS):
            if pq.read_schema(path).names == ["count"]:
                (counts,) = read_columns(path, {"count": pa.int64()})
                if len(counts) < 2:
                    raise damaged(path, "it has no rows")
                return cls(RowCounts.of(counts))
        at, counts = read_columns(path, {"row": pa.uint64(), "count": pa.int64()})
        if not len(at) or (at[1:] <= at[:-1]).any() or at[-1] < 1:
            raise damaged(path, "its rows do not increase, or it has none")
        hit = counts > 0
        return cls(RowCounts(int(at[-1]) + 1, at[hit], counts[hit]))


def read_columns(path: Path, columns: dict[str, pa.DataType]) -> list[np.ndarray]:
    """The columns of a file that holds these, no null, and no count below zero."""
    try:
        with pq.ParquetFile(path) as file:
            kinds = {field.name: field.type for field in file.schema_arrow}
            if kinds != columns:
                raise damaged(path, f"its columns are {', '.join(kinds)}")
            check_size(file, range(file.num_row_groups), [*columns], path)
            table = file.read()
    except FileNotFoundError:
        raise UserError(path, "is missing", REMEDY) from None
    except READ_ERRORS as error:
        raise damaged(path, one_line(error)) from error
    if any(column.null_count for column in table.columns) or (pc.min(table["count"]).as_py() or 0) < 0:
        raise damaged(path, "a value is none")
    return [table[name].to_numpy() for name in columns]


def damaged(path: Path, why: str) -> UserError:
    """That a vocabulary's file is not what was written."""
    return UserError(path, f"is damaged ({why})", REMEDY)
