"""Shares of the training rows, each counted by one rank."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from ..events.event_files import EventFiles

_ROWS = 1 << 17
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


@dataclass(frozen=True)
class Share:
    """Row groups of a domain that follow on one another.

    Attributes:
        number: from 0, in the order of the domains and their files.
        domain: its name.
        groups: number of a file, its path and the row group in it.
        rows: in all of them.
    """

    number: int
    domain: str
    groups: tuple[tuple[int, str, int], ...]
    rows: int


def shares_of(train: Mapping[str, EventFiles]) -> list[Share]:
    """All training rows, in order, in shares that are the same for any number of ranks: what is added up of one is, share after
    share, the same number then.

    A share has up to `_ROWS` rows, or one row group that has more.
    """
    shares: list[Share] = []
    for domain, files in train.items():
        held: list[tuple[int, str, int]] = []
        size = 0
        for number, (path, groups) in enumerate(zip(files.files, files.group_rows, strict=True)):
            for group, more in enumerate(groups):
                if held and size + more > _ROWS:
                    shares.append(Share(len(shares), domain, tuple(held), size))
                    held, size = [], 0
                held.append((number, path, group))
                size += more
        if held:
            shares.append(Share(len(shares), domain, tuple(held), size))
    return shares


def exchanged(ranks: Ranks, owners: np.ndarray, columns: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Gives each row of some columns to the rank that owns it.

    Args:
        ranks: that do so, all of them.
        owners: ``[N]`` rank of each row.
        columns: ``[N]`` each, of 64 bits.

    Returns:
        Of each rank, in order, the columns that came from it, its rows in their order.
    """
    order = np.argsort(owners, kind="stable")
    ends = np.searchsorted(owners[order], np.arange(1, ranks.world_size))
    sent = [ranks.exchange(np.split(column[order], ends)) for column in columns]
    return [list(of_rank) for of_rank in zip(*sent, strict=True)]


def on_all(ranks: Ranks, columns: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Columns of all ranks, one rank's after the other's, on every rank."""
    return [np.concatenate(ranks.exchange([column] * ranks.world_size)) for column in columns]
