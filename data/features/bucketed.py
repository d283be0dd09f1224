"""One number, as the bucket it falls into."""

from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from ..arrow.column_need import BadValues, ColumnNeed
from ..arrow.column_types import NUMBER
from ..arrow.values import NO_NUMBER, bad_numbers, numbers
from ..vocabulary.buckets import Bucketing, as_float32
from .counts import Counts
from .feature import Counted, Feature, FeatureColumns, Inputs, feature_key


class Bucketed(Feature):
    """One number, put into a bucket that is looked up in a small table of its own; nothing is looked up where it is missing."""

    kind: Literal["bucketed"] = Field(description="one number, put into a bucket with an embedding of its own")
    boundaries: Annotated[tuple[float, ...], Field(min_length=1)] | None = Field(
        default=None, description="where buckets begin, increasing; in place of `buckets`"
    )
    buckets: Annotated[int, Field(ge=2, le=1 << 20)] | None = Field(
        default=None,
        description="how many, of as many training rows each as equal numbers allow; 10 when absent and no boundaries are given",
    )

    @model_validator(mode="before")
    @classmethod
    def _ten_by_default(cls, raw: Any) -> Any:
        """What is absent becomes the default, so that a resolved file shows it."""
        absent = isinstance(raw, dict) and raw.get("boundaries") is None and raw.get("buckets") is None
        return raw | {"buckets": 10} if absent else raw

    @model_validator(mode="after")
    def _one_way(self):
        if self.boundaries is not None:
            if self.buckets is not None:
                raise ValueError("give either `boundaries` or `buckets`, not both")
            if any(second <= first for first, second in pairwise(as_float32(np.array(self.boundaries)))):
                raise ValueError("`boundaries` must increase, also when rounded to float32, as numbers are")
        return self

    @property
    def ids(self) -> Bucketing:
        """How numbers become rows."""
        return Bucketing(boundaries=self.boundaries, buckets=self.buckets or 0)

    def needs(self, name: str, field: str) -> list[ColumnNeed]:
        return [ColumnNeed(self.column_name(name), NUMBER, field, bad=BadValues(bad_numbers, NO_NUMBER))]

    def inputs(self, name: str) -> Inputs:
        key = feature_key(name)
        return Inputs(singles=(key,), encodings={key: self})

    def count(self, name: str, table: pa.Table, where: str, counts: Counts, weights: np.ndarray | None) -> None:
        values = numbers(*self.column_of(name, table, where))
        counts.ids(feature_key(name), self).add(values, ~np.isnan(values), weights)

    def encode(self, name: str, table: pa.Table, where: str, counted: Counted) -> FeatureColumns:
        key = feature_key(name)
        values = numbers(*self.column_of(name, table, where))
        rows = counted.tables[key].lookup(values)
        rows[np.isnan(values)] = -1
        return FeatureColumns(singles={key: rows})
