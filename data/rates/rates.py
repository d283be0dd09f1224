"""Smoothed rates and counts, as a row may know them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from .parts import Parts, RowParts
from .so_far import RatesSoFar

UNSEEN, MISSING = -1, -2
"""In place of an id: one that training never saw, and none."""
FARTHEST = 4.0
"""Deviations; what is farther off is no more like anything that training shows."""
NOTHING_KNOWN = -FARTHEST - 1
"""In all columns of an id or category of which a row knows no label."""


@dataclass
class RateTable:
    """What is known of ids (or categories), of each as often as it changes.

    Attributes:
        cells: ``[C]`` int64, increasing: ``id * stride + part``; in order of time what is known after that part, else without it, or
            with all where the part is their number. The first is -1, of an id of which nothing is known.
        values: ``[C, 2 T]`` float32, of each of T tasks the rate and the count, standardised.
    """

    cells: np.ndarray
    values: np.ndarray

    def known(self, ids: np.ndarray, parts: Parts, of_rows: RowParts | None) -> tuple[np.ndarray, np.ndarray]:
        """What rows know of their ids, ``[N, 2 T]`` float32, zeros where they have none; and whether they know a label, ``[N]`` bool.

        Args:
            ids: ``[N]`` int64, or `UNSEEN` or `MISSING`.
            parts: of the training rows.
            of_rows: the rows' own; None where they know of all.
        """
        first = np.maximum(ids, 0) * parts.stride
        if parts.ordered:  # after the last part before the row's own
            at = np.searchsorted(self.cells, first + (parts.stride if of_rows is None else of_rows.known)) - 1
            found = self.cells.take(at) >= first
        else:
            at, found = self._exactly(first + (parts.count if of_rows is None else of_rows.known))
            if of_rows is not None and not found.all():  # no label of the id is in the row's own part
                rest = np.flatnonzero(~found)
                at[rest], found[rest] = self._exactly(first[rest] + parts.count)
        out = self.values.take(np.where(found & (ids >= 0), at, 0), axis=0)
        out[ids == MISSING] = 0
        # Of an id whose labels are all in the row's own fold, the count is 0, as of an unknown one.
        return out, (out[:, 1::2] > self.values[0, 1::2]).any(1) & (ids >= 0)

    def without(self, rows: np.ndarray, per_row: int) -> "RateTable":
        """Nothing of what rows of an embedding table have, of each of which there may be so many cells."""
        kept = (self.cells < 0) | ~np.isin(self.cells // per_row, rows)
        return RateTable(self.cells[kept], self.values[kept])

    def _exactly(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = np.searchsorted(self.cells, cells)
        return at, (at < len(self.cells)) & (self.cells.take(at, mode="clip") == cells)


@dataclass
class Rates:
    """What the labels of training say of ids and categories.

    Attributes:
        parts: of the training rows.
        tables: name -> what is known; of one by domain, the ids are ``row * domains + domain``.
        moments: name of a column -> its mean and deviation over the training rows.
        so_far: what the next increment goes on with; None where that was not kept, as by older versions, or is not needed.
    """

    parts: Parts
    tables: dict[str, RateTable]
    moments: dict[str, tuple[float, float]]
    so_far: RatesSoFar | None = None

    def without(self, given_up: Mapping[str, np.ndarray]) -> "Rates":
        """Without what is known of some rows, by the name of the table of rates; these have kept what the next increment goes on with."""
        assert self.so_far is not None
        sums, tables = dict(self.so_far.tables), dict(self.tables)
        for name, rows in given_up.items():
            tables[name] = tables[name].without(rows, self.parts.stride * len(sums[name].priors))
            sums[name] = sums[name].without(rows)
        return replace(self, tables=tables, so_far=replace(self.so_far, tables=sums))

    def columns(
        self,
        ids: Mapping[str, np.ndarray],
        entities: Mapping[str, str],
        of_rows: Mapping[str, RowParts] | None,
        marked: bool = True,
    ) -> np.ndarray:
        """``[N, K]`` float32, standardised, and at most `FARTHEST` from 0.

        Args:
            ids: name of a table -> ``[N]`` ids, as of `RateTable.known`.
            entities: name of a table -> the entity that it is about.
            of_rows: entity -> parts of the rows; None where they know of all labels.
            marked: whether ids of which a row knows nothing have `NOTHING_KNOWN`, in place of the prior's rate and a count of 0.
        """
        found = []
        for name, table in self.tables.items():
            values, known = table.known(ids[name], self.parts, None if of_rows is None else of_rows[entities[name]])
            values = np.clip(values, -FARTHEST, FARTHEST)
            if marked:
                values[~known & (ids[name] != MISSING)] = NOTHING_KNOWN
            found.append(values)
        return np.concatenate(found, 1)
