"""Labels that count something: a Poisson regression."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ...data.arrow.column_need import BadValues
from ...data.config.sections.task import Array, Metric, Scale
from . import number_metrics as of_numbers
from .number_task import (
    CALIBRATION,
    DECILE_ERROR,
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

_BAD = labels_from(
    0.0,
    "no whole number from 0 up, nor null",
    "Counts are whole numbers from 0 up, or null where a row has none.",
    whole=True,
)
_LINEAR_FROM = 10.0  # of the logit: a rate 22,000 times the mean
_DEVIANCE = Measured(
    Metric(key="deviance", title="deviance", short="deviance", higher_is_better=False), of_numbers.poisson_deviance
)


class Count(NumberTask):
    """A label that is a whole number from 0 up. Its score is the expected number.

    The logit is the logarithm of the rate over the mean label of training.
    """

    takes: ClassVar[str] = "a whole number from 0 up"

    kind: Literal["count"] = Field(
        default="count", description="a label that counts something: 0, 1, 2, ...; scores are rates"
    )

    @property
    def bad_labels(self) -> BadValues:
        """What is negative, not whole or not finite."""
        return _BAD

    def scaled(self, labels: Array) -> Array:
        """The labels."""
        return labels

    def losses(self, logits: Tensor, labels: Tensor, scale: Scale) -> Tensor:
        """Negative log-likelihood of a Poisson distribution without what the label alone decides, over the labels' deviation where
        that is above 1: so the gradients of large counts are of the size of a probability's. Where the rate is beyond 22,000 times
        the mean, and beyond the label, it grows in proportion to the logit: one row far off cannot throw the model out.
        """
        mean = _mean(scale)
        # Beyond the label too: a line that rises by less than the label would pull the logit up without end.
        begins = (torch.log((labels / mean).clamp(min=1)) + 1).clamp(min=_LINEAR_FROM)
        rate = torch.exp(torch.minimum(logits, begins) + math.log(mean)) * (1 + (logits - begins).clamp(min=0))
        return (rate - labels * logits) / max(scale.deviation, 1.0)

    def scores(self, logits: Tensor, scale: Scale) -> Tensor:
        """The rate."""
        return torch.exp((logits + math.log(_mean(scale))).clamp(max=LARGEST_EXPONENT))

    @property
    def measured(self) -> tuple[Measured, ...]:
        """The Poisson deviance first."""
        return _DEVIANCE, RMSE, MAE, R2, SPEARMAN, CALIBRATION, DECILE_ERROR

    @property
    def explained(self) -> str:
        """Deviance and calibration."""
        return f"Deviance: twice the log-likelihood that is missing to rates that are the labels; 0 is perfect. {OF_CALIBRATION}"


def _mean(scale: Scale) -> float:
    return scale.mean if scale.mean > 0 else 1.0
