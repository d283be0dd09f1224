"""Labels that are one of a few levels in order, such as a rating: a cumulative-link model."""

from functools import partial
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from ...data.arrow.column_need import BadValues
from ...data.arrow.values import floats
from ...data.config.sections.task import Array, Metric, Scale
from . import number_metrics as of_numbers
from .number_task import CALIBRATION, DECILE_ERROR, MAE, OF_CALIBRATION, R2, RMSE, SPEARMAN, Measured, NumberTask

_APART = 1e-3  # least distance of two cumulative logits: no level ever has no probability at all
_BEGINNING = 0.6931472  # softplus of 0: how far apart they are for logits of 0


class Ordinal(NumberTask):
    """A label that is one of K levels in order. Its score is the expected level.

    The first output is where a row stands, the others how far apart the K - 1 cumulative logits are, each below the one before
    it: log-odds that the label is above level 1, above level 2, ... Cumulative logits (McCullagh, Regression Models for Ordinal
    Data, 1980), with distances that each row has for itself.
    """

    ranks_by_first: ClassVar[bool] = False  # the distances, too, are the row's own
    takes: ClassVar[str] = "one of its levels"

    kind: Literal["ordinal"] = Field(
        default="ordinal", description="a label that is one of a few levels, such as a rating; scores are means"
    )
    levels: tuple[float, ...] = Field(
        default=(1.0, 2.0, 3.0, 4.0, 5.0), min_length=2, max_length=101, description="the labels there are, rising"
    )

    @field_validator("levels")
    @classmethod
    def _rise(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        single = np.asarray(levels, dtype=np.float32)  # as labels are kept
        if not (np.isfinite(single).all() and (np.diff(single) > 0).all()):
            raise ValueError(f"{list(levels)} do not rise; write each level once, the lowest first")
        return levels

    @property
    def bad_labels(self) -> BadValues:
        """What is none of the levels."""
        words = ", ".join(f"{level:g}" for level in self.levels)
        between = None  # numbers between two levels are bad, too
        if all(level == self.levels[0] + at for at, level in enumerate(self.levels)) and self.levels[0] % 1 == 0:
            between = (self.levels[0], self.levels[-1])
        remedy = f"List every label there is in `levels`, now {words}; null where a row has none."
        return BadValues(partial(_no_level, levels=self.levels), "none of the levels, nor null", remedy, between)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Where it stands, and K - 2 distances."""
        return "place", *(f"distance {number}" for number in range(1, len(self.levels) - 1))

    def taken(self, labels: Array) -> NDArray[np.bool_]:
        """Where the label is above the middle level."""
        middle = self.levels[(len(self.levels) - 1) // 2]
        return labels > np.float32(middle)

    def losses(self, logits: Tensor, labels: Tensor, scale: Scale) -> Tensor:
        """Negative log-likelihood of the level, in nats."""
        above, distances = self._cumulative(logits)
        borders = [(low + high) / 2 for low, high in zip(self.levels, self.levels[1:], strict=False)]
        # Of level k: above k - 1, not above k, and log(sigmoid(a) - sigmoid(b)) = log sigmoid(a) + log sigmoid(-b) + log(1 - e^(b-a)).
        is_above = torch.stack([labels > border for border in borders], -1)
        none = torch.zeros_like(is_above[..., :1])
        first_not = ~is_above & torch.cat([~none, is_above[..., :-1]], -1)
        last_above = is_above & torch.cat([~is_above[..., 1:], ~none], -1)
        found = F.logsigmoid(above) * last_above + F.logsigmoid(-above) * first_not
        inside = torch.log(-torch.expm1(-distances)) * (last_above[..., :-1] & first_not[..., 1:])
        return -(found.sum(-1) + inside.sum(-1))

    def scores(self, logits: Tensor, scale: Scale) -> Tensor:
        """The expected level."""
        above, _ = self._cumulative(logits)
        expected = torch.full_like(above[..., 0], self.levels[0])
        for at, (low, high) in enumerate(zip(self.levels, self.levels[1:], strict=False)):
            expected = expected + torch.sigmoid(above[..., at]) * (high - low)
        return expected

    def _cumulative(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """``[..., K - 1]`` cumulative logits, and how far each is below the one before."""
        if len(self.levels) == 2:  # one output, which has no axis of its own
            return logits.unsqueeze(-1), logits.new_zeros(*logits.shape, 0)
        distances = F.softplus(logits[..., 1:]) + _APART
        below = F.pad(distances.cumsum(-1), (1, 0))
        middle = _BEGINNING * (len(self.levels) - 2) / 2  # so that logits of 0 favour neither end
        return logits[..., :1] + middle - below, distances

    @property
    def measured(self) -> tuple[Measured, ...]:
        """RMSE first."""
        accuracy = Metric(key="accuracy", title="accuracy", format=".1%")
        right = Measured(accuracy, partial(of_numbers.accuracy, levels=np.array(self.levels)))
        return RMSE, MAE, R2, SPEARMAN, right, CALIBRATION, DECILE_ERROR

    @property
    def explained(self) -> str:
        """RMSE, accuracy and calibration."""
        return f"RMSE and MAE are of the expected level. Accuracy: the label is the level next to it. {OF_CALIBRATION}"


def _no_level(array: pa.Array, levels: tuple[float, ...]) -> np.ndarray | None:
    """``[N]`` bool, True for what is none of the levels, to the precision of a float32, nor missing; None where all are good."""
    values = floats(array)
    bad = ~(np.isin(values, levels) | np.isin(values, np.asarray(levels, np.float32)) | np.isnan(values))
    return bad if bad.any() else None
