"""What the model says of a batch beside its loss."""

from typing import NamedTuple

from torch import Tensor


class Outputs(NamedTuple):
    """Detached and float32; a tuple, as TorchRec's pipeline and DistributedDataParallel look for tensors in tuples.

    Attributes:
        logits: ``[B, O]``, columns as in ``layout.outputs``.
        losses: ``[domains, T]``, sums of losses, before the tasks' weights and by those of the labels; zeros where the model is not in
            training and gradients are off.
        counts: ``[domains, T]``, how many labels those are sums over; where labels have weights, the sum of these.
        alignment: scalar, before its weight; zero where losses are.
        gates: owner -> ``[B, A]``, columns as in ``represent.encoder.owners``.
        list_losses: ``[2, domains, T]``, sums over rows of the unweighted losses of their lists, and how many rows those are; None where
            no task has a list loss, or losses are zeros.
        next_item: ``[2]``, the sum of the next-item losses and how many they are; zeros outside of training.
        user: ``[B, D]``, whose product with candidates scores them, or ``[B, U]``, by which codes are ranked (`Decoder.of_user`); None in training, and
            without a next-item objective.
        candidates: ``[M, D]``; None where ``user`` is, and without a part where that ranks codes.
    """

    logits: Tensor
    losses: Tensor
    counts: Tensor
    alignment: Tensor
    gates: dict[str, Tensor]
    next_item: Tensor
    list_losses: Tensor | None = None
    user: Tensor | None = None
    candidates: Tensor | None = None
