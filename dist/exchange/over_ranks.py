"""Rows that are spread over ranks, for metrics: `model/tasks/spread.py` over the process group."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...data.arrow.ids import mix
from ...model.tasks.spread import Back
from ..ranks.runtime import Runtime
from .exchange import each, exchange

_T = TypeVar("_T")
_SAMPLES = 512  # of each rank's values: of all rows, one in so many comes to a rank beyond its share, at most


@dataclass(frozen=True)
class OverRanks:
    """A `Spread` over the ranks of a process group. Its methods are collectives."""

    runtime: Runtime

    @property
    def rank(self) -> int:
        """Which one this is."""
        return self.runtime.rank

    @property
    def ranks(self) -> int:
        """How many there are."""
        return self.runtime.world_size

    def each(self, values: NDArray) -> NDArray:
        """As of `exchange.each`."""
        return each(values, self.runtime)

    def told(self, value: _T) -> list[_T]:
        """Every rank's value, in rank order."""
        return self.runtime.gather_all(value)

    def by_value(self, keys: NDArray, *columns: Any) -> tuple[list[Any], Back]:
        """Rows to ranks by ranges of their keys, of about as many rows each."""
        return self._sent(np.searchsorted(self._borders(keys), keys), keys, columns)

    def by_group(self, groups: NDArray, *columns: Any) -> tuple[list[Any], Back]:
        """Rows to ranks by a hash of their group."""
        target = mix(np.asarray(groups)) % np.uint64(self.ranks)
        return self._sent(target.astype(np.int64), groups, columns)

    def _sent(self, target: NDArray, keys: NDArray, columns: tuple[Any, ...]) -> tuple[list[Any], Back]:
        there = [column for column in columns if column is not None]
        (came_keys, *came), counts = exchange([keys, *there], target, self.runtime)
        found = iter(came)
        rows = [came_keys, *(None if column is None else next(found) for column in columns)]

        def back(values: NDArray) -> NDArray:
            (returned,), _ = exchange([values], np.repeat(np.arange(self.ranks), counts), self.runtime)
            out = np.empty_like(returned)
            out[np.argsort(target, kind="stable")] = returned
            return out

        return rows, back

    def _borders(self, keys: NDArray) -> NDArray:
        """``[R - 1]`` the largest key of each rank but the last, from samples of the keys ``[N]`` of all, which rise on each."""
        at = (2 * np.arange(_SAMPLES) + 1) * len(keys) // (2 * _SAMPLES)
        samples = keys[at] if len(keys) else np.zeros(_SAMPLES, keys.dtype)
        everyone = self.each(samples).reshape(-1)
        stand_for = np.repeat(self.each(np.array([len(keys)])), _SAMPLES)  # keys, times the samples of a rank
        everyone, stand_for = everyone[stand_for > 0], stand_for[stand_for > 0]
        if not len(everyone):
            return everyone[:0]
        order = np.argsort(everyone, kind="stable")
        held = np.cumsum(stand_for[order])
        wanted = held[-1] * np.arange(1, self.ranks) // self.ranks
        return everyone[order][np.searchsorted(held, wanted)]
