"""Joint ranking and calibration."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from .list_loss import ListLoss, ListRows


class JRC(ListLoss):
    """The list part of joint ranking and calibration (JRC; Sheng et al., KDD 2023), the mean over a list's rows.

    Each row has two logits, for being positive and for being negative. Their difference is the task's logit, of which the loss of each
    label and the scores are made. The list part asks of each row which of its list's rows has its label: cross-entropy, in nats, of
    the softmax over the list of the logits for that label. The mean of the two logits is an output of its own, which can move for
    the list's sake and leave the probability as it is.
    """

    outputs: ClassVar[tuple[str, ...]] = ("middle",)

    kind: Literal["jrc"] = Field(default="jrc", description="joint ranking and calibration: which row has the label")

    def loss(self, logits: Tensor, gains: Tensor, rows: ListRows, further: Tensor) -> Tensor:
        """``[L]``; arguments as of `ListLoss.loss`. A label is positive if it is above 0."""
        middle, half = further[:, 0], logits / 2
        positive = (gains > 0).to(logits.dtype)
        positives, every = rows.sum(positive), rows.sum(positive.new_ones(len(positive)))
        of_positives = positives * rows.log_sum_exp(middle + half) - rows.sum(positive * (middle + half))
        of_negatives = (every - positives) * rows.log_sum_exp(middle - half) - rows.sum(
            (1 - positive) * (middle - half)
        )
        return (of_positives + of_negatives) / every.clamp_min(1.0)
