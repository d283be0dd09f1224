"""Many ids, each with a weight."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from ..arrow.beside_history import of_items
from ..arrow.column_need import BadValues, ColumnNeed
from ..arrow.column_types import LIST_ID, LIST_NUMBER, LIST_TIME
from ..arrow.ids import id_keys
from ..arrow.times import check_times, seconds
from ..arrow.values import LARGEST, Ragged, bad_weights, floats, keep, ragged_lists
from ..errors import UserError
from ..settings_base import Positive
from ..vocabulary.encoding import Encoding
from .counts import Counts
from .feature import Counted, Feature, FeatureColumns, Inputs, feature_key

_DAY = 86_400.0
_WRONG = f"weights that are no numbers from 0 to {LARGEST:g}"


class WeightedList(Encoding, Feature):
    """Many ids, looked up in one table and pooled to the mean that their weights make: sum of w e / sum of w."""

    differs: ClassVar[frozenset[str]] = Feature.differs | {"max_length", "weights", "times"}

    kind: Literal["weighted_list"] = Field(description="many ids with weights, or with times; pooled")
    weights: str | None = Field(
        default=None,
        description="column with a list of numbers from 0 up, one per id; one that is 0 or null has no part",
    )
    times: str | None = Field(
        default=None,
        description="in place of `weights`: column with a list of times, one per id (timestamps, dates or seconds); null: no part",
    )
    half_life_days: float | None = Field(
        default=None, gt=0, description="with `times`: an id so much older than the row's newest has half its weight"
    )
    max_length: Positive = Field(default=50, description="ids kept per row, the last ones")

    @model_validator(mode="after")
    def _one_way(self):
        if (self.weights is None) == (self.times is None):
            raise ValueError("give either `weights` or `times`")
        if (self.times is None) != (self.half_life_days is None):
            raise ValueError("`times` and `half_life_days` go together")
        return self

    def needs(self, name: str, field: str) -> list[ColumnNeed]:
        ids = self.column_name(name)
        if self.weights is None:
            beside = ColumnNeed(self.times or "", LIST_TIME, f"{field}.times", beside=ids)
        else:
            bad = BadValues(bad_weights, _WRONG)
            beside = ColumnNeed(self.weights, LIST_NUMBER, f"{field}.weights", beside=ids, bad=bad)
        return [ColumnNeed(ids, LIST_ID, field, table=feature_key(name)), beside]

    def inputs(self, name: str) -> Inputs:
        key = feature_key(name)
        return Inputs(lists={key: self.max_length}, weighted=(key,), encodings={key: self})

    def count(self, name: str, table: pa.Table, where: str, counts: Counts, weights: np.ndarray | None) -> None:
        keys, _, offsets = self._weighted(name, table, where)
        repeated = None if weights is None else np.repeat(weights, np.diff(offsets))
        counts.ids(feature_key(name), self).add(keys, np.ones(len(keys), bool), repeated)

    def encode(self, name: str, table: pa.Table, where: str, counted: Counted) -> FeatureColumns:
        key = feature_key(name)
        keys, weights, offsets = self._weighted(name, table, where)
        rows = np.repeat(np.arange(table.num_rows), np.diff(offsets))
        sums = np.bincount(rows, weights, minlength=table.num_rows)
        weights *= (np.diff(offsets) / np.maximum(sums, np.finfo(float).tiny))[rows]
        weighed: Ragged = weights.astype(np.float32), offsets
        return FeatureColumns(lists={key: (counted.tables[key].lookup(keys), offsets)}, weights={key: weighed})

    def _weighted(self, name: str, table: pa.Table, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Id keys, weights above 0, and the offsets of both."""
        column, _ = self.column_of(name, table, where)
        ids, offsets = ragged_lists(column)
        keys, valid = id_keys(ids)
        read = self._numbers if self.weights is not None else self._decayed
        weights = read(column, table, where)
        has_part = valid & (weights > 0)
        if not has_part.all():
            keys, (weights, offsets) = keys[has_part], keep(weights, offsets, has_part)
        since_end = np.repeat(offsets[1:], np.diff(offsets)) - np.arange(len(keys))
        last = since_end <= self.max_length
        return keys[last], *keep(weights, offsets, last)

    def _numbers(self, ids: pa.ChunkedArray, table: pa.Table, where: str) -> np.ndarray:
        """One weight per id; NaN where it is null."""
        column, at = table[self.weights], f"{where}: column '{self.weights}'"
        if (bad := bad_weights(column)) is not None:
            remedy = "Write null, or 0, for an id that is to have no part."
            raise UserError(f"{at}, row {int(np.argmax(bad))}", f"holds {_WRONG}", remedy)
        return floats(of_items(ids, column, at, "weight", "weights", "id"))

    def _decayed(self, ids: pa.ChunkedArray, table: pa.Table, where: str) -> np.ndarray:
        """One weight per id, by how much older it is than its row's newest; NaN where its time is null.

        That the event is later than that makes no difference: it would change all weights of a row by one factor.
        """
        assert self.half_life_days is not None
        column, at = table[self.times], f"{where}: column '{self.times}'"
        check_times(column, at)
        told = of_items(ids, column, at, "time", "times", "id")
        times = seconds(told) if len(told) else np.zeros(0)
        _, offsets = ragged_lists(ids)
        row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        newest = np.full(len(offsets) - 1, -np.inf)
        np.maximum.at(newest, row, np.nan_to_num(times, nan=-np.inf))
        return 0.5 ** ((newest[row] - times) / (self.half_life_days * _DAY))
