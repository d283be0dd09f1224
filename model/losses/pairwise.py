"""Pairs of rows of a list."""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from .list_loss import ListLoss, ListRows


class Pairwise(ListLoss):
    """Logistic loss, in nats, of the difference of two rows' logits, over the pairs with different labels.

    Without ``lambda_weights`` it is RankNet's (Burges et al., 2005), the mean over the list's pairs. With them each pair weighs as much
    as the list's NDCG would change if the two changed places, and a list's loss is the sum: LambdaRank (Burges et al., 2006). NDCG
    is of the whole list, gains are the labels, and its places are by the logits of this step, equal ones as they stand.
    """

    kind: Literal["pairwise"] = Field(default="pairwise", description="logistic loss of pairs with different labels")
    lambda_weights: bool = Field(
        default=False, description="weigh a pair by what swapping it changes in NDCG (LambdaRank)"
    )

    def loss(self, logits: Tensor, gains: Tensor, rows: ListRows, further: Tensor) -> Tensor:
        """``[L]``; arguments as of `ListLoss.loss`."""
        with torch.no_grad():
            first, second, each = rows.pairs()
            # Both orders of a pair are there, so each counts one half.
            sign = torch.sign(gains[first] - gains[second])
            weights = sign.abs() * (rows.present[first] & rows.present[second])
            if self.lambda_weights:
                weights *= _ndcg_changes(logits, gains, rows)
            else:
                weights *= 2 / rows.sum(_sums(weights, each)).clamp_min(1.0)[rows.lists.of_row[first]]
            away = sign * (logits[second] - logits[first])
            values = rows.sum(_sums(weights * F.softplus(away), each)) / 2
            slopes = -_sums(weights * sign * torch.sigmoid(away), each)
        # The gradient is known, and adds up in the same order every time, which that of an index on a GPU would not.
        carrier = rows.sum(slopes * logits)
        return values + carrier - carrier.detach()


def _ndcg_changes(logits: Tensor, gains: Tensor, rows: ListRows) -> Tensor:
    """``[P]``, of each of `ListRows.pairs`: by how much NDCG changes where its two rows change places."""
    first, second, each = rows.pairs()

    def discounts(values: Tensor) -> Tensor:
        """``[B]``, of the places that rows have by falling values."""
        before = (values[second] > values[first]) | ((values[second] == values[first]) & (second < first))
        return 1 / torch.log2(2 + _sums((before & rows.present[second]).to(logits.dtype), each))

    best = rows.sum(gains * discounts(gains)).clamp_min(1e-30)[rows.lists.of_row[first]]
    discount = discounts(logits)
    return ((gains[first] - gains[second]) * (discount[first] - discount[second])).abs() / best


def _sums(values: Tensor, each: Tensor) -> Tensor:
    """``[P]`` -> ``[B]``, over the pairs that begin with each row."""
    return torch.segment_reduce(values, "sum", lengths=each, unsafe=True)
