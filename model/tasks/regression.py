"""Labels that are any number: a regression on the label in units of its deviation, measured in the label's own."""

from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ...data.arrow.column_need import BadValues
from ...data.arrow.values import LARGEST
from ...data.config.sections.task import Array, Metric, Scale
from . import number_metrics as of_numbers
from .number_task import (
    CALIBRATION,
    DECILE_ERROR,
    DIGITS,
    LARGEST_EXPONENT,
    MAE,
    OF_CALIBRATION,
    R2,
    RMSE,
    SPEARMAN,
    Measured,
    NumberTask,
    labels_from,
)

_FINITE = labels_from(
    -LARGEST, "no finite number, nor null", "Labels of a regression are finite numbers, or null where a row has none."
)
_ABOVE_MINUS_ONE = labels_from(
    -1.0,
    "not above -1, nor null",
    "With transform: log1p, labels are above -1, or null where a row has none.",
    above=True,
)


_COVERAGE = Measured(
    Metric(key="coverage", title="coverage", short="coverage", format=".1%", short_format=".1%", averaged=False),
    of_numbers.coverage,
)


class Regression(NumberTask):
    """A label that is a number. Its score estimates the label's mean, or what its loss and its transform stand for.

    The logit is the transformed label in deviations from its mean in training, so that a label in seconds or in cents trains
    as one between 0 and 1 does.
    """

    takes: ClassVar[str] = "a finite number"

    kind: Literal["regression"] = Field(
        default="regression", description="a label that is any number; scores have its unit"
    )
    loss: Literal["mse", "huber", "quantile"] = Field(
        default="mse",
        description="mse: scores are means; huber: the same, but outliers count less; quantile: scores are the `quantile`",
    )
    delta: float = Field(
        default=1.0,
        gt=0,
        description="of huber: from which error on it counts in proportion and no more by its square, in deviations of the "
        "(transformed) label",
    )
    quantile: float = Field(
        default=0.5, gt=0, lt=1, description="which one scores are: at 0.9, nine of ten labels are below"
    )
    transform: Literal["none", "log1p"] = Field(
        default="none",
        description="of the label, before the loss; scores are transformed back, which makes those of mse and log1p a typical "
        "label (with a symmetric logarithm its median), below the mean",
    )

    def without_effect(self) -> dict[str, str]:
        found = {} if self.loss == "huber" else {"delta": "loss: huber"}
        return found if self.loss == "quantile" else found | {"quantile": "loss: quantile"}

    @property
    def bad_labels(self) -> BadValues:
        """What is not finite; under log1p what is not above -1."""
        return _ABOVE_MINUS_ONE if self.transform == "log1p" else _FINITE

    def scaled(self, labels: Array) -> Array:
        """The labels, transformed."""
        return np.log1p(labels) if self.transform == "log1p" else labels

    def losses(self, logits: Tensor, labels: Tensor, scale: Scale) -> Tensor:
        """Squared error; that up to ``delta`` and twice ``delta`` x error beyond (Huber, 1964); or the pinball loss (Koenker and
        Bassett, 1978): of the transformed label in its deviations.
        """
        wanted = torch.log1p(labels) if self.transform == "log1p" else labels
        wanted = (wanted - scale.mean) / scale.deviation
        if self.loss == "quantile":
            return torch.maximum(self.quantile * (wanted - logits), (self.quantile - 1) * (wanted - logits))
        if self.loss == "huber":
            return 2 * F.huber_loss(logits, wanted, reduction="none", delta=self.delta)
        return (logits - wanted) ** 2

    def scores(self, logits: Tensor, scale: Scale) -> Tensor:
        """The number that the logit stands for; under log1p transformed back, without a correction for the mean."""
        value = scale.mean + scale.deviation * logits
        return torch.expm1(value.clamp(max=LARGEST_EXPONENT)) if self.transform == "log1p" else value

    @property
    def measured(self) -> tuple[Measured, ...]:
        """RMSE first; of a quantile its pinball loss."""
        if self.loss == "quantile":
            return self._pinball, self.chosen_by, _COVERAGE, MAE, SPEARMAN
        return RMSE, MAE, R2, SPEARMAN, CALIBRATION, DECILE_ERROR

    @property
    def chosen_by(self) -> Measured:
        """R²; of a quantile what is the same of its pinball loss."""
        if self.loss != "quantile":
            return R2
        metric = Metric(key="skill", title="skill", short="skill")
        return Measured(metric, partial(of_numbers.quantile_skill, quantile=self.quantile))

    @property
    def explained(self) -> str:
        """Of a quantile, how it is measured; and what else is in the tables."""
        if self.loss == "quantile":
            return (
                f"Pinball loss: error, counted {self.quantile:g} where the label is above the prediction and "
                f"{1 - self.quantile:g} where it is below, in the label's unit. Skill: the share of it that is saved, compared "
                f"with the labels' own quantile for all rows. Coverage: labels not above their prediction, {self.quantile:g} is right."
            )
        return f"RMSE and MAE are in the label's unit. R²: the share of the labels' variance that is explained. {OF_CALIBRATION}"

    @property
    def truth(self) -> str:
        """What scores estimate."""
        return "quantile" if self.loss == "quantile" else "expectation"

    @property
    def _pinball(self) -> Measured:
        metric = Metric(
            key="pinball",
            title="pinball loss",
            short="pinball",
            higher_is_better=False,
            format=DIGITS,
            short_format=DIGITS,
        )
        return Measured(metric, partial(of_numbers.pinball, quantile=self.quantile))
