"""Many ids."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from ..arrow.column_need import ColumnNeed
from ..arrow.column_types import LIST_ID
from ..arrow.values import ragged_keys
from ..settings_base import Positive
from ..vocabulary.encoding import Encoding
from .counts import Counts
from .feature import Counted, Feature, FeatureColumns, Inputs, feature_key


class IdList(Encoding, Feature):
    """Many ids, looked up in one table and pooled to their mean."""

    differs: ClassVar[frozenset[str]] = Feature.differs | {"max_length"}

    kind: Literal["list"] = Field(description="many ids, pooled")
    max_length: Positive = Field(default=50, description="ids kept per row, the last ones")

    def needs(self, name: str, field: str) -> list[ColumnNeed]:
        return [ColumnNeed(self.column_name(name), LIST_ID, field, table=feature_key(name))]

    def inputs(self, name: str) -> Inputs:
        key = feature_key(name)
        return Inputs(lists={key: self.max_length}, encodings={key: self})

    def count(self, name: str, table: pa.Table, where: str, counts: Counts, weights: np.ndarray | None) -> None:
        keys, offsets = ragged_keys(self.column_of(name, table, where)[0], self.max_length)
        repeated = None if weights is None else np.repeat(weights, np.diff(offsets))
        counts.ids(feature_key(name), self).add(keys, np.ones(len(keys), bool), repeated)

    def encode(self, name: str, table: pa.Table, where: str, counted: Counted) -> FeatureColumns:
        key = feature_key(name)
        keys, offsets = ragged_keys(self.column_of(name, table, where)[0], self.max_length)
        return FeatureColumns(lists={key: (counted.tables[key].lookup(keys), offsets)})
