"""Softmax over a list."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from .list_loss import ListLoss, ListRows


class Softmax(ListLoss):
    """Cross-entropy, in nats, of the softmax over a list's logits against its labels divided by their sum.

    ListNet's top-one probabilities (Cao et al., 2007) with the labels themselves as the target, as in Bruch et al. (2019), who
    show that it bounds the mean reciprocal rank and NDCG where labels are 0 or 1.
    """

    kind: Literal["softmax"] = Field(default="softmax", description="cross-entropy of the softmax over the list")

    def loss(self, logits: Tensor, gains: Tensor, rows: ListRows, further: Tensor) -> Tensor:
        """``[L]``; arguments as of `ListLoss.loss`."""
        total = rows.sum(gains)
        return rows.log_sum_exp(logits) - rows.sum(gains * logits) / total.clamp_min(1e-30)
