"""Shares of the training rows, each counted by one rank."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from ..events.event_files import EventFiles

SHARE_ROWS = 1 << 17
_T = TypeVar("_T")


class Ranks(Protocol):
    """Those that count together."""

    @property
    def rank(self) -> int:
        """Which of them this one is."""
        ...

    @property
    def world_size(self) -> int:
        """How many they are."""
        ...

    def gather_all(self, value: _T) -> list[_T]:
        """Every rank's value, in rank order, on every rank."""
        ...

    def exchange(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Gives one array to each rank, and gets one from each."""
        ...


class OneRank:
    """One process by itself."""

    rank, world_size = 0, 1

    def gather_all(self, value: _T) -> list[_T]:
        return [value]

    def exchange(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        return list(values)


ONE_RANK = OneRank()


class Group(NamedTuple):
    """A row group.

    Attributes:
        file: number of its file among the domain's.
        path: of that.
        number: of the row group in it.
    """

    file: int
    path: str
    number: int


@dataclass(frozen=True)
class Share:
    """Row groups of a domain that follow on one another.

    Attributes:
        number: from 0, in the order of the domains and their files.
        domain: its name.
        groups: in order.
        rows: in all of them.
    """

    number: int
    domain: str
    groups: tuple[Group, ...]
    rows: int


def shares_of(train: Mapping[str, EventFiles]) -> list[Share]:
    """All training rows, in order, in shares that are the same for any number of ranks: what is added up of one is, share after
    share, the same number then.

    A share has up to `SHARE_ROWS` rows, or one row group that has more.
    """
    shares: list[Share] = []
    for domain, files in train.items():
        held: list[Group] = []
        size = 0
        for number, (path, groups) in enumerate(zip(files.files, files.group_rows, strict=True)):
            for group, more in enumerate(groups):
                if held and size + more > SHARE_ROWS:
                    shares.append(Share(len(shares), domain, tuple(held), size))
                    held, size = [], 0
                held.append(Group(number, path, group))
                size += more
        if held:
            shares.append(Share(len(shares), domain, tuple(held), size))
    return shares


def exchanged(ranks: Ranks, owners: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """Gives each of some rows to the rank that owns it.

    Args:
        ranks: that do so, all of them.
        owners: ``[N]`` rank of each row.
        rows: ``[N, K]`` int64.

    Returns:
        Of each rank, in order, the rows that came from it, in their order, ``[M, K]``.
    """
    if ranks.world_size == 1:
        return [rows]
    owners = owners.astype(np.uint16)  # which are sorted by their digits, several times as fast
    order = np.argsort(owners, kind="stable")
    ends = np.searchsorted(owners[order], np.arange(1, ranks.world_size))
    found = ranks.exchange([part.ravel() for part in np.split(rows[order], ends)])
    return [part.reshape(-1, rows.shape[1]) for part in found]


def on_all(ranks: Ranks, rows: np.ndarray) -> np.ndarray:
    """Rows of all ranks, one rank's after the other's, on every rank, ``[M, K]``.

    Args:
        ranks: all of them.
        rows: ``[N, K]`` int64, of this one.
    """
    found = ranks.exchange([rows.ravel()] * ranks.world_size)
    return np.concatenate(found).reshape(-1, rows.shape[1])
