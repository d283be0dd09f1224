"""Which rows the ids of a table have, and how that changes with an increment of the training."""

from dataclasses import dataclass

import numpy as np

from .vocabulary import KeyIndex

Counted = tuple[np.ndarray, np.ndarray]
"""``[K]`` uint64 keys, increasing, and ``[K]`` int64, how often each was seen."""


@dataclass(frozen=True)
class Rules:
    """When ids get rows, and lose them.

    Attributes:
        rows: how many there are for ids.
        min_count: how often an id must be seen within the window to get one.
        window: increments; within as many, too, what has been counted for a row counts half.
        expire_after: seconds without its id after which a row is given back; None: never.
    """

    rows: int
    min_count: int = 1
    window: int = 7
    expire_after: float | None = None


@dataclass(frozen=True)
class Rows:
    """What is known of the rows of a table, ``[rows + 1]`` each; row 0, every other id's, is nobody's.

    Attributes:
        key: uint64, of its id.
        owned: bool, whether an id has it.
        count: int64, how often increments have shown the id since it has the row.
        recent: float64, the same, but that a count halves within a window.
        last: float64, the time of the newest event of the last increment that has shown it, in seconds; -inf where none has a time.
        given_up: int64, how many ids have had the row before.
    """

    key: np.ndarray
    owned: np.ndarray
    count: np.ndarray
    recent: np.ndarray
    last: np.ndarray
    given_up: np.ndarray

    @classmethod
    def of(cls, number: int) -> "Rows":
        """So many free rows, and row 0."""
        of_count, of_time = np.zeros((2, number + 1), np.int64), np.full(number + 1, -np.inf)
        owned = np.zeros(number + 1, bool)
        return cls(of_count[0].astype(np.uint64), owned, of_count[0], np.zeros(number + 1), of_time, of_count[1])

    def more(self, number: int) -> "Rows":
        """A copy, with free rows behind, as many as there are then ``number`` in all."""
        free = Rows.of(number - len(self.key) + 1)
        names = [*self.__dataclass_fields__]
        return Rows(*(np.concatenate([getattr(self, name), getattr(free, name)[1:]]) for name in names))

    def give_up(self, rows: np.ndarray) -> None:
        """Nobody's from now on, and nothing is known of whose they were."""
        self.given_up[rows] += self.owned[rows]
        self.owned[rows], self.key[rows], self.count[rows] = False, 0, 0
        self.recent[rows], self.last[rows] = 0, -np.inf


@dataclass(frozen=True)
class State:
    """What the next increment must know.

    Attributes:
        rules: by which ids have got their rows.
        rows: what is known of these.
        counted: what the last increments, as many as a window has at most, have counted of all ids; the last one last.
        newest: time of the newest event so far, in seconds; -inf where none has a time.
    """

    rules: Rules
    rows: Rows
    counted: tuple[Counted, ...] = ()
    newest: float = -np.inf

    def after(self, counted: Counted, newest: float, rules: Rules) -> "State":
        """After one more increment. Does not change this one.

        First, ids that were last seen too long before the increment's newest event give their rows back. Then the ids of this increment that have no
        row, and have been seen often enough in the last increments, get one: those seen most often of late first, and of equals those of
        smaller keys, the smallest free row each. Where none is free, the row whose id has been seen least of late goes to one that has been
        seen more often. Of late means that a count halves within a window, of ids with a row and without one.

        Args:
            counted: what the increment has counted.
            newest: time of its newest event, in seconds; -inf where none has a time.
            rules: from now on; there may be more rows than before, and not fewer.
        """
        keys, counts = counted
        rows = self.rows.more(rules.rows)
        fade = 0.5 ** (1 / rules.window)
        rows.recent[:] *= fade
        if not np.isfinite(self.newest):  # nobody knows when they were seen last
            rows.last[rows.owned] = newest
        mine = index_of(rows).lookup(keys)
        seen, known = mine[mine > 0], mine > 0
        rows.count[seen] += counts[known]
        rows.recent[seen] += counts[known]
        rows.last[seen] = np.maximum(rows.last[seen], newest)
        window = (*self.counted, counted)[-rules.window :]
        if rules.expire_after is not None:
            rows.give_up(np.flatnonzero(rows.owned & (rows.last < newest - rules.expire_after)))
        new, of_new = keys[~known], counts[~known]
        together, faded = _within(window, new, fade)
        often = together >= rules.min_count
        new, of_new, faded = new[often], of_new[often], faded[often]
        order = np.lexsort((new, -faded))
        free = np.flatnonzero(~rows.owned[1:])[: len(order)] + 1
        least = np.zeros(0, np.int64)
        if (left := order[len(free) :]).size:
            owned = np.flatnonzero(rows.owned)
            least = owned[np.lexsort((rows.key[owned], rows.recent[owned]))][: len(left)]
            least = least[faded[left[: len(least)]] > rows.recent[least]]
            rows.give_up(least)
        got = np.concatenate([free, least])
        taken = order[: len(got)]
        rows.key[got], rows.owned[got], rows.last[got] = new[taken], True, newest
        rows.count[got], rows.recent[got] = of_new[taken], faded[taken]
        return State(rules, rows, window, max(self.newest, newest))

    def without(self, keys: np.ndarray) -> "State":
        """As if none of the ids of these keys, ``[K]`` uint64, had ever been seen; rows that they had are free. Does not change this one."""
        rows = self.rows.more(self.rules.rows)
        mine = index_of(rows).lookup(np.unique(keys))
        rows.give_up(mine[mine > 0])
        kept = [~np.isin(seen, keys) for seen, _ in self.counted]
        counted = tuple((seen[at], counts[at]) for at, (seen, counts) in zip(kept, self.counted, strict=True))
        return State(self.rules, rows, counted, self.newest)


def index_of(rows: Rows) -> KeyIndex:
    """From the keys of ids to the rows that they have."""
    owned = np.flatnonzero(rows.owned)
    return KeyIndex(rows.key[owned], first=1, positions=owned)


def _within(window: tuple[Counted, ...], keys: np.ndarray, fade: float) -> tuple[np.ndarray, np.ndarray]:
    """How often a window's increments have seen keys: together, and with what is ``fade`` of a count an increment later."""
    together, faded = np.zeros(len(keys), np.int64), np.zeros(len(keys))
    for ago, (seen, counts) in enumerate(reversed(window)):
        at = KeyIndex(seen).lookup(keys)
        of_keys = np.where(at >= 0, counts[at], 0) if len(counts) else np.zeros(len(keys), np.int64)
        together += of_keys
        faded += of_keys * fade**ago
    return together, faded
