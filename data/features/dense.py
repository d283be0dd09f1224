"""One number."""

from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from ..arrow.column_need import BadValues, ColumnNeed
from ..arrow.column_types import NUMBER
from ..arrow.values import NO_NUMBER, bad_numbers, numbers
from .counts import Counts
from .feature import Counted, Feature, FeatureColumns, Inputs


class Dense(Feature):
    """One number, standardised by the mean and the deviation that the counting pass has found; the mean where it is missing."""

    kind: Literal["dense"] = Field(description="one number, standardised")
    transform: Literal["none", "log1p"] = Field(default="none", description="applied before standardising")

    @property
    def above(self) -> float | None:
        """What a number must be larger than; None where any finite one will do."""
        return -1.0 if self.transform == "log1p" else None

    def needs(self, name: str, field: str) -> list[ColumnNeed]:
        bad = BadValues(partial(bad_numbers, above=self.above), NO_NUMBER)
        return [ColumnNeed(self.column_name(name), NUMBER, field, bad=bad)]

    def inputs(self, name: str) -> Inputs:
        return Inputs(dense=(name,))

    def count(self, name: str, table: pa.Table, where: str, counts: Counts, weights: np.ndarray | None) -> None:
        values = self._transformed(*self.column_of(name, table, where))
        shown = ~np.isnan(values) if weights is None else ~np.isnan(values) & (weights > 0)
        counts.add_numbers(name, values[shown])

    def encode(self, name: str, table: pa.Table, where: str, counted: Counted) -> FeatureColumns:
        mean, deviation = counted.dense.get(name, (0.0, 1.0))
        column, at = self.column_of(name, table, where)
        values = self._transformed(column, at) - mean
        values /= deviation
        values = values.astype(np.float32)
        if column.null_count:
            values[np.isnan(values)] = 0
        return FeatureColumns(dense={name: values})

    def _transformed(self, column: pa.ChunkedArray, where: str) -> np.ndarray:
        values = numbers(column, where, self.above)
        return np.log1p(values) if self.transform == "log1p" else values
