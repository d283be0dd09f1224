"""Where result lists begin among the rows of a domain: what the order of an epoch needs to move them whole."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..arrow.ids import id_keys
from ..errors import UserError
from ..events.event_files import read_group


@dataclass(frozen=True)
class ListMarks:
    """A mark for each training row of a domain, in the order of its files. A row that names no list is a list of its own.

    Attributes:
        begins: ``[rows]`` bool, whether it is the first row of a list.
        longest: rows of the longest list, at least 1.
    """

    begins: np.ndarray
    longest: int


@dataclass(frozen=True)
class _Place:
    """A row of a file, for errors."""

    path: str
    group: int
    row: int

    def __str__(self) -> str:
        return f"{self.path}: row group {self.group}, row {self.row}"


class ListCounter:
    """Finds the lists of one domain, row group after row group."""

    def __init__(self, domain: str, column: str):
        """Args: the domain's name, its list column."""
        self._domain, self.column = domain, column
        self._begins: list[np.ndarray] = []
        self._keys: list[np.ndarray] = []  # of each list that has a name
        self._rows_of_keys: list[np.ndarray] = []  # its first row
        self._groups: list[tuple[int, str, int]] = []  # the domain's row with which each begins, its file, its number
        self._rows = 0
        self._first: tuple[np.uint64, bool] = np.uint64(0), False
        self._last: tuple[np.uint64, bool] = np.uint64(0), False

    def add(self, column: pa.ChunkedArray, path: str, group: int) -> None:
        """The next row group's."""
        keys, valid = id_keys(column)
        if not len(keys):
            return
        before = np.concatenate([[self._last[0]], keys[:-1]]), np.concatenate([[self._last[1]], valid[:-1]])
        begins = ~(valid & before[1] & (keys == before[0]))
        self._begins.append(begins)
        named = np.flatnonzero(begins & valid)
        self._keys.append(keys[named])
        self._rows_of_keys.append(named + self._rows)
        self._groups.append((self._rows, path, group))
        if not self._rows:
            self._first = keys[0], bool(valid[0])
        self._rows += len(keys)
        self._last = keys[-1], bool(valid[-1])

    def extend(self, other: "ListCounter") -> None:
        """The row groups of another one, which follow on its own."""
        if not other._rows:
            return
        begins, keys, rows = list(other._begins), list(other._keys), list(other._rows_of_keys)
        if self._rows and self._last == other._first and self._last[1]:  # its first list has begun before
            begins[0] = begins[0].copy()
            begins[0][0] = False
            keys[0], rows[0] = keys[0][1:], rows[0][1:]
        self._begins += begins
        self._keys += keys
        self._rows_of_keys += [each + self._rows for each in rows]
        self._groups += [(self._rows + first, path, group) for first, path, group in other._groups]
        self._first, self._last = self._first if self._rows else other._first, other._last
        self._rows += other._rows

    def parts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What it has found, plain, and as arrays."""
        plain = {"domain": self._domain, "column": self.column, "groups": self._groups}
        plain |= {"ends": [bool(self._first[1]), bool(self._last[1])]}
        nothing = np.zeros(0, np.uint64)
        return plain, {
            "begins": np.concatenate([nothing.astype(bool), *self._begins]),
            "keys": np.concatenate([nothing, *self._keys]),
            "rows": np.concatenate([nothing.astype(np.int64), *self._rows_of_keys]),
            "ends": np.array([self._first[0], self._last[0]], np.uint64),
        }

    @classmethod
    def of_parts(cls, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> "ListCounter":
        """What `parts` gave."""
        found = cls(plain["domain"], plain["column"])
        found._begins, found._keys, found._rows_of_keys = [arrays["begins"]], [arrays["keys"]], [arrays["rows"]]
        found._groups = [(row, path, group) for row, path, group in plain["groups"]]
        found._rows = len(arrays["begins"])
        found._first, found._last = zip(arrays["ends"], plain["ends"], strict=True)
        return found

    def marks(self, most: int) -> ListMarks:
        """All of them.

        Args:
            most: rows that a list may have.

        Raises:
            UserError: the rows of a list lie apart, or there are more of them than ``most``.
        """
        if not self._begins:
            return ListMarks(np.zeros(0, bool), 1)
        begins = np.concatenate(self._begins)
        keys, rows = np.concatenate(self._keys), np.concatenate(self._rows_of_keys)
        order = np.argsort(keys, kind="stable")
        again = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
        if len(again):
            first, second = rows[order[again[0] : again[0] + 2]].tolist()
            raise UserError(
                f"{self._place(second)}: column '{self.column}'",
                f"names list {self._named(first)}, which has rows at {self._place(first)}, too, and others in between",
                f"A list loss of domain '{self._domain}' needs the rows of a list next to one another: sort the events by this "
                "column when writing them, and give different lists different ids.",
            )
        bounds = np.append(np.flatnonzero(begins), len(begins))
        lengths = np.diff(bounds)
        longest = int(lengths.argmax())
        if lengths[longest] > most:
            raise UserError(
                f"{self._place(bounds[longest])}: column '{self.column}'",
                f"begins list {self._named(bounds[longest])} of {lengths[longest]:,} rows, more than the {most:,} of "
                f"training.batch_size, and a list loss of domain '{self._domain}' needs it whole in one rank's batch",
                "Raise training.batch_size, cut such lists when writing the events, or remove the list loss.",
            )
        return ListMarks(begins, int(lengths[longest]))

    def _named(self, row: int) -> str:
        place = self._place(row)
        return repr(read_group(place.path, place.group, [self.column])[self.column][place.row].as_py())

    def _place(self, row: int) -> _Place:
        start, path, group = next(each for each in reversed(self._groups) if each[0] <= row)
        return _Place(path, group, int(row - start))
