"""A kind of task as a user may write one: numbers from 0 up, in one class. `{"amount": Amount}` is all else it takes."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from foundrank.data.arrow.column_need import BadValues, ColumnNeed
from foundrank.data.config.sections.task import ROWS, Array, Measures, Metric, Scale, Task


class Amount(Task):
    """A label that is a number from 0 up. Its score is the expected number: the logit times a unit, squared error."""

    takes: ClassVar[str] = "a number from 0 up"

    kind: Literal["amount"] = "amount"
    weight: float = 1.0
    unit: float = 1.0

    def columns(self, field: str) -> list[ColumnNeed]:
        bad = BadValues(_negative, "no number from 0 up", "Amounts are from 0 up, or null.", (0, math.inf))
        return [self.label.need(f"{field}.label", bad)]

    @property
    def oracle(self) -> str | None:
        return None

    def taken(self, labels: Array) -> NDArray[np.bool_]:
        return labels > 0

    def losses(self, logits: Tensor, labels: Tensor, scale: Scale) -> Tensor:
        return (logits - labels / self.unit) ** 2

    def scores(self, logits: Tensor, scale: Scale) -> Tensor:
        return logits * self.unit

    @property
    def measures(self) -> Measures:
        return Measures(
            headline=Metric(key="rmse", title="RMSE", format=".3f", short="RMSE", short_format=".3f"),
            higher_is_better=False,
            others=[Metric(key="r2", title="R²", short="R²")],
            support=ROWS,
            mean=Metric(key="mean", title="means", format=".2f"),
            chosen_by="R²",
            of_popularity="Popularity predicts the item's own mean in training.",
            of_oracle="The oracle predicts the true expectation.",
            explained="RMSE: root of the mean squared error. R²: share of the variance that is explained.",
        )

    def metrics(
        self,
        labels: Array,
        scores: Array,
        users: Array | None = None,
        lists: Array | None = None,
        in_list: Array | slice = slice(None),
    ) -> dict[str, Any]:
        if not len(labels):
            return {"rmse": None, "r2": None}
        error, spread = self.headline(labels, scores), float(np.std(labels.astype(np.float64)))
        return {"rmse": error, "r2": 1 - (error / spread) ** 2 if spread else None}

    def headline(self, labels: Array, scores: Array) -> float:
        return math.sqrt(np.mean((scores.astype(np.float64) - labels) ** 2))

    def validation(self, row: Mapping[str, Any]) -> tuple[float, float] | None:
        return None if row["r2"] is None else (row["r2"], math.sqrt(row["rows"]))


class Band(Amount):
    """An amount with two outputs: its middle, in deviations from the mean of training, and how far around that labels are."""

    kind: Literal["band"] = "band"  # type: ignore[assignment]

    @property
    def outputs(self) -> tuple[str, ...]:
        return "middle", "width"

    def scaled(self, labels: Array) -> Array:
        return labels

    def losses(self, logits: Tensor, labels: Tensor, scale: Scale) -> Tensor:
        middle, width = logits.unbind(-1)
        return (middle - (labels - scale.mean) / scale.deviation) ** 2 + width**2

    def scores(self, logits: Tensor, scale: Scale) -> Tensor:
        return scale.mean + scale.deviation * logits[..., 0]


def _negative(array: pa.Array) -> np.ndarray | None:
    values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    bad = values < 0
    return bad if bad.any() else None
