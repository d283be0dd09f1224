"""Labels that are often zero and otherwise spread over orders of magnitude, such as spend: a zero-inflated lognormal."""

from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
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
    POSITIVES,
    RMSE,
    SPEARMAN,
    Measured,
    NumberTask,
    labels_from,
)

_BAD = labels_from(
    0.0, "no finite number from 0 up, nor null", "Values are numbers from 0 up, or null where a row has none."
)
_ONE = 0.5413249  # softplus of it is 1
_LEAST_DEVIATION = (
    0.02  # of a logarithm, in deviations of all logarithms: equal labels would have a density without limit
)
_GINI = Measured(Metric(key="gini", title="Gini", short="Gini"), of_numbers.normalised_gini)


class Value(NumberTask):
    """A label from 0 up that is often 0. Its score is the expected value.

    Zero-inflated lognormal (Wang, Liu and Miao, A Deep Probabilistic Model for Customer Lifetime Value Prediction, 2019). Three
    outputs: the log-odds that the label is above 0, the mean of its logarithm where it is, in deviations of training's from
    their mean, and what becomes the deviation around that.
    """

    takes: ClassVar[str] = "a number from 0 up"
    ranks_by_first: ClassVar[bool] = False  # that is of whether, not of how much

    kind: Literal["value"] = Field(
        default="value",
        description="a label from 0 up that is often 0 and otherwise spreads widely, such as spend; scores are means in its unit",
    )

    @property
    def bad_labels(self) -> BadValues:
        """What is negative or not finite."""
        return _BAD

    @property
    def outputs(self) -> tuple[str, ...]:
        """Log-odds of a label above 0, mean and deviation of its logarithm."""
        return "positive", "mu", "sigma"

    def scaled(self, labels: Array) -> Array:
        """Logarithms of the labels above 0."""
        return np.log(labels[labels > 0])

    def losses(self, logits: Tensor, labels: Tensor, scale: Scale) -> Tensor:
        """Negative log-likelihood in nats: of whether the label is above 0, and of its logarithm (in deviations) where it is."""
        positive, mu, sigma = _parameters(logits)
        some = labels > 0
        logarithm = torch.log(torch.where(some, labels, 1.0))
        error = ((logarithm - scale.mean) / scale.deviation - mu) / sigma
        of_amount = torch.where(some, 0.5 * error**2 + torch.log(sigma), 0.0)
        return F.binary_cross_entropy_with_logits(positive, some.to(logits.dtype), reduction="none") + of_amount

    def scores(self, logits: Tensor, scale: Scale) -> Tensor:
        """The probability of a label above 0, times the mean of the lognormal."""
        positive, mu, sigma = _parameters(logits)
        exponent = scale.mean + scale.deviation * mu + 0.5 * (scale.deviation * sigma) ** 2
        return torch.sigmoid(positive) * torch.exp(exponent.clamp(max=LARGEST_EXPONENT))

    @property
    def measured(self) -> tuple[Measured, ...]:
        """The normalised Gini coefficient first: it orders by value, where RMSE is decided by the few largest labels."""
        return _GINI, SPEARMAN, RMSE, MAE, CALIBRATION, DECILE_ERROR

    @property
    def support(self) -> Metric:
        """Labels above 0."""
        return POSITIVES

    @property
    def chosen_by(self) -> Measured:
        """The normalised Gini coefficient."""
        return _GINI

    @property
    def explained(self) -> str:
        """Gini, and calibration."""
        return (
            "Gini: how unevenly the sum of the labels is spread over the rows in order of their prediction, over that in order of "
            f"the labels; 1 is the best order, 0 is chance. {OF_CALIBRATION}"
        )


def _parameters(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-odds, mean and deviation (1 for a logit of 0); the latter two in deviations of the logarithm."""
    positive, mu, sigma = logits.unbind(-1)
    return positive, mu, F.softplus(sigma + _ONE) + _LEAST_DEVIATION
