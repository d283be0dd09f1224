"""Rows that ids are given, keep, and give back, from one increment of the training to the next.

The number of rows is fixed. An id gets a row when it has been seen often enough, keeps it while it is seen, and gives it back when it
has not been for a while, or when a newcomer has been seen more often. That happens between increments alone, by what was counted in
them: in training and in scoring a table of managed ids is looked up like any other vocabulary (Liu et al., "Monolith", 2022, have such
tables in a parameter server, which admits ids and drops them while it serves).
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from ..storage.json_documents import Shape, parse_shape
from .key_counts import ExactCounts
from .managed_rows import Counted, Rows, Rules, State, index_of
from .vocabulary import REMEDY, KeyIndex, Vocabulary, damaged, read_columns

_COLUMNS = {
    "row": pa.int64(),  # 0: what an increment has counted of a key
    "key": pa.uint64(),
    "owned": pa.bool_(),
    "count": pa.int64(),
    "recent": pa.float64(),
    "last": pa.float64(),
    "given_up": pa.int64(),  # of row 0, how many increments ago that was
}
_SETTINGS = b"foundrank.managed"


class _Settings(Shape):
    """In the file's metadata: the rules, how many increments it has counts of, and the time of the newest event."""

    rows: Annotated[int, Field(ge=1)]
    min_count: Annotated[int, Field(ge=1)]
    window: Annotated[int, Field(ge=1)]
    expire_after: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    increments: Annotated[int, Field(ge=0)]
    newest: Annotated[float, Field(allow_inf_nan=False)] | None


class ManagedIds(Vocabulary):
    """Rows for some of the ids there are, the same number for good; row 0 is every other id's."""

    encoding: ClassVar[str] = "managed"

    def __init__(self, state: State):
        self._kept: State | Path = state
        self.index, self.counts = index_of(state.rows), state.rows.count

    @classmethod
    def counted(cls, rules: Rules, counted: Counted, newest: float = -np.inf) -> "ManagedIds":
        """Of a first increment; ``counted`` in any order."""
        order = np.argsort(counted[0], kind="stable")
        keys, counts = counted[0][order].astype(np.uint64), counted[1][order].astype(np.int64)
        seen = counts > 0
        return cls(State(rules, Rows.of(rules.rows)).after((keys[seen], counts[seen]), newest, rules))

    @classmethod
    def mapped(cls, index: KeyIndex, counts: np.ndarray, path: Path) -> "ManagedIds":
        """As they are looked up; what the next increment must know is read from where it was saved when it is asked for."""
        table = cls.__new__(cls)
        table.index, table.counts, table._kept = index, counts, path
        return table

    @property
    def state(self) -> State:
        """What the next increment must know."""
        if isinstance(self._kept, Path):
            self._kept = type(self).load(self._kept).state
        return self._kept

    def at(self, newest: float) -> "ManagedIds":
        """Of the same first increment, whose newest event has this time, in seconds."""
        rows = self.state.rows  # all ids that have one were seen now
        rows = replace(rows, last=np.where(rows.owned, newest, -np.inf))
        return ManagedIds(replace(self.state, rows=rows, newest=newest))

    def following(self, before: Vocabulary) -> "ManagedIds | None":
        """What ``before`` is as managed ids: itself where it is, and of a vocabulary that grows its ids in their rows; None where there
        are too few rows for them."""
        if before.rows > self.rows:
            return None
        if isinstance(before, ManagedIds):
            return before
        rows, known = Rows.of(before.rows - 1), slice(1, None)
        rows.key[known], rows.owned[known] = before.keys, True
        rows.count[known] = rows.recent[known] = before.counts[known]
        return ManagedIds(State(self.state.rules, rows))

    def fits(self, new: Vocabulary) -> bool:
        """Whether another one's ids may come: there must not be fewer rows."""
        return new.rows >= self.rows

    def extended(self, new: Vocabulary) -> "ManagedIds":
        """After the increment that another one has counted."""
        assert isinstance(new, ManagedIds)
        return ManagedIds(self.state.after(new.state.counted[-1], new.state.newest, new.state.rules))

    def without(self, keys: np.ndarray) -> "ManagedIds | None":
        """As of `State.without`; None where nothing is known of any of them."""
        known = [self.keys, *(seen for seen, _ in self.state.counted)]
        return ManagedIds(self.state.without(keys)) if any(np.isin(seen, keys).any() for seen in known) else None

    def changed(self, before: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
        """As of `Vocabulary.changed`."""
        was = self.following(before)
        assert was is not None
        then, now = was.state.rows.more(len(self.counts) - 1), self.state.rows
        left = now.given_up != then.given_up
        return np.flatnonzero(left), np.flatnonzero(now.owned & (left | ~then.owned))

    def save(self, path: Path) -> None:
        """Writes what is known of each row that has, or had, an owner, and what the last increments have counted."""
        rows, counted = self.state.rows, self.state.counted
        there = np.flatnonzero(rows.owned | (rows.given_up > 0))
        parts = [[there], *([getattr(rows, name)[there]] for name in Rows.__dataclass_fields__)]
        for ago, (keys, counts) in enumerate(reversed(counted)):
            none = np.zeros(len(keys), np.int64)
            for part, of in zip(parts, (none, keys, none, counts, none, none, none + ago), strict=True):
                part.append(of)
        columns = zip(parts, _COLUMNS.values(), strict=True)
        arrays = [np.concatenate(part).astype(kind.to_pandas_dtype()) for part, kind in columns]
        table = pa.table(dict(zip(_COLUMNS, arrays, strict=True)))
        newest = self.state.newest if np.isfinite(self.state.newest) else None
        plain = asdict(self.state.rules) | {"increments": len(counted), "newest": newest}
        settings = {_SETTINGS: json.dumps(plain)}
        pq.write_table(table.replace_schema_metadata(settings), path, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> "ManagedIds":
        """Reads what `save` wrote.

        Raises:
            UserError: the file is missing or damaged.
        """
        at, *columns = read_columns(path, _COLUMNS)
        told = parse_shape((pq.read_schema(path).metadata or {}).get(_SETTINGS, b""), path, _Settings, REMEDY)
        increments, newest = told.increments, told.newest
        rules = Rules(told.rows, told.min_count, told.window, told.expire_after)
        of_row, rows = at > 0, Rows.of(rules.rows)
        given_up, keys, counts = columns[-1], columns[0], columns[2]
        mine, ago = at[of_row], given_up[~of_row]
        if (at < 0).any() or (mine[1:] <= mine[:-1]).any() or mine.max(initial=0) > rules.rows:
            raise damaged(path, "its rows do not increase, or there are more than it says")
        if len(ago) and not 0 <= ago.min() <= ago.max() < increments:
            raise damaged(path, "it has more increments than it says")
        for name, column in zip(Rows.__dataclass_fields__, columns, strict=True):
            getattr(rows, name)[mine] = column[of_row]
        owned = rows.key[rows.owned]
        if len(np.unique(owned)) < len(owned):
            raise damaged(path, "a key is there twice")
        of_increment = [np.flatnonzero(~of_row)[ago == back] for back in reversed(range(increments))]
        counted = tuple((keys[part], counts[part]) for part in of_increment)
        return cls(State(rules, rows, counted, -np.inf if newest is None else newest))


class ManagedCounts(ExactCounts):
    """Counts of keys of which some get rows."""

    def __init__(self, rules: Rules):
        super().__init__(rules.min_count)
        self._rules = rules

    def table(self, min_count: int | None = None) -> Vocabulary:
        """The table of the keys that get rows; of all that were counted at least ``min_count`` times, where that is asked for."""
        return ManagedIds.counted(self._rules, self.held()) if min_count is None else super().table(min_count)
