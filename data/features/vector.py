"""A vector that is already there."""

from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from ..arrow.column_need import ColumnNeed
from ..arrow.column_types import VECTOR
from ..arrow.values import vector_rows
from ..settings_base import Positive
from .counts import Counts
from .feature import Counted, Feature, FeatureColumns, Inputs, feature_key


class Vector(Feature):
    """A vector, as it is; zeros where it is missing."""

    kind: Literal["vector"] = Field(description="list<float> or fixed_size_list<float>")
    size: Positive = Field(description="its number of values")

    def needs(self, name: str, field: str) -> list[ColumnNeed]:
        return [ColumnNeed(self.column_name(name), VECTOR, field, self.size)]

    def inputs(self, name: str) -> Inputs:
        return Inputs(vectors={feature_key(name): self.size})

    def count(self, name: str, table: pa.Table, where: str, counts: Counts, weights: np.ndarray | None) -> None:
        """There is nothing to count."""

    def encode(self, name: str, table: pa.Table, where: str, counted: Counted) -> FeatureColumns:
        column, at = self.column_of(name, table, where)
        return FeatureColumns(vectors={feature_key(name): vector_rows(column, self.size, at)})
