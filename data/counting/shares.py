"""Shares of the training rows, each counted by one rank."""

import math
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


def exchanged(
    ranks: Ranks, owners: np.ndarray, keys: np.ndarray, values: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Gives each of some rows to the rank that owns it.

    Args:
        ranks: that do so, all of them.
        owners: ``[N]`` rank of each row.
        keys: ``[N]`` of 64 bits.
        values: ``[N]`` or ``[N, K]`` of 64 bits.

    Returns:
        Of each rank, in order, keys and values of the rows that came from it, in their order.
    """
    if ranks.world_size == 1:
        return [(keys, values)]
    owners = owners.astype(np.uint16)  # which are sorted by their digits, several times as fast
    order = np.argsort(owners, kind="stable")
    ends = np.searchsorted(owners[order], np.arange(1, ranks.world_size))
    found = ranks.exchange([part.ravel() for part in np.split(_packed(keys, values)[order], ends)])
    return [_unpacked(part, keys, values) for part in found]


def on_all(ranks: Ranks, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values, as of `exchanged`, of all ranks, one rank's after the other's, on every rank."""
    if ranks.world_size == 1:
        return keys, values
    found = ranks.exchange([_packed(keys, values).ravel()] * ranks.world_size)
    return _unpacked(np.concatenate(found), keys, values)


def _packed(keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.column_stack([keys.view(np.int64), values.view(np.int64)])


def _unpacked(flat: np.ndarray, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values of the types, and the values of the width, of these."""
    rows = flat.reshape(-1, 1 + math.prod(values.shape[1:]))
    of_keys, of_values = np.ascontiguousarray(rows[:, 0]), np.ascontiguousarray(rows[:, 1:])
    return of_keys.view(keys.dtype), of_values.view(values.dtype).reshape(-1, *values.shape[1:])
