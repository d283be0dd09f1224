"""The multi-task loss."""

import torch
from torch import Tensor

from ...data.batch.batch import Batch
from ..layers.domain_rows import domain_sums, to_rows
from .task_columns import TaskColumns


def multitask_loss(
    tasks: TaskColumns,
    logits: Tensor,
    batch: Batch,
    task_weights: Tensor,
    denominator: int,
    offsets: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted loss over the labels that are present.

    The sum is divided by a fixed number, not by the labels in this batch: the mean over R ranks is then exactly the
    global sum / (R x denominator), however unevenly rows and labels are dealt. A label counts by its weight in the batch, if there
    are any: weights of mean 1 leave the loss on the scale that it has without.

    Args:
        tasks: T of them.
        logits: ``[B, O]``, their outputs.
        batch: B rows.
        task_weights: ``[domains, T]`` float32.
        denominator: the nominal batch size.
        offsets: ``[domains, O]`` float32, what is added to the logits; None: nothing.

    Returns:
        The loss, a float32 scalar; and, detached, the sums before ``task_weights`` and the counts of labels, both by their weights
        in the batch, ``[domains, T]`` float32.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float() if offsets is None else logits.float() + to_rows(offsets, batch.domain_lengths)
        each = tasks.losses(logits, batch.labels)
        if batch.weights is None:
            counted = batch.label_mask.float()
            each = each.masked_fill(~batch.label_mask, 0.0)
        else:
            counted = batch.weights * batch.label_mask
            each = each.masked_fill(counted == 0, 0.0) * counted
        sums = domain_sums(each, batch.domain_lengths)
        counts = domain_sums(counted, batch.domain_lengths)
        loss = (sums * task_weights).sum() / denominator
    return loss, sums.detach(), counts
