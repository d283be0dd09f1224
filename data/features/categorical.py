"""One id."""

from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from ..arrow.column_need import ColumnNeed
from ..arrow.column_types import SCALAR_ID
from ..arrow.ids import id_keys
from ..vocabulary.encoding import Encoding
from .counts import Counts
from .feature import Counted, Feature, FeatureColumns, Inputs, feature_key


class Categorical(Encoding, Feature):
    """One id, looked up in a table of its own."""

    kind: Literal["categorical"] = Field(description="one id (int64 or string)")

    def needs(self, name: str, field: str) -> list[ColumnNeed]:
        return [ColumnNeed(self.column_name(name), SCALAR_ID, field, table=feature_key(name))]

    def inputs(self, name: str) -> Inputs:
        key = feature_key(name)
        return Inputs(singles=(key,), encodings={key: self})

    def count(self, name: str, table: pa.Table, where: str, counts: Counts, weights: np.ndarray | None) -> None:
        counts.ids(feature_key(name), self).add(*id_keys(self.column_of(name, table, where)[0]), weights)

    def encode(self, name: str, table: pa.Table, where: str, counted: Counted) -> FeatureColumns:
        key = feature_key(name)
        keys, valid = id_keys(self.column_of(name, table, where)[0])
        rows = counted.tables[key].lookup(keys)
        if not valid.all():
            rows[~valid] = -1
        return FeatureColumns(singles={key: rows})
