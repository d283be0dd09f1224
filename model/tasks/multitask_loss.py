"""The multi-task loss."""

import torch
from torch import Tensor

from ...data.batch.batch import Batch
from ..layers.domain_rows import domain_sums
from .task_columns import TaskColumns


def multitask_loss(
    tasks: TaskColumns, logits: Tensor, batch: Batch, task_weights: Tensor, denominator: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted loss over the labels that are present.

    The sum is divided by a fixed number, not by the labels in this batch: the mean over R ranks is then exactly the
    global sum / (R x denominator), however unevenly rows and labels are dealt.

    Args:
        tasks: T of them.
        logits: ``[B, O]``, their outputs.
        batch: B rows.
        task_weights: ``[domains, T]`` float32.
        denominator: the nominal batch size.

    Returns:
        The loss, a float32 scalar; and, detached, the unweighted sums and the counts of labels, both
        ``[domains, T]`` float32.
    """
    with torch.autocast(logits.device.type, enabled=False):
        each = tasks.losses(logits.float(), batch.labels)
        each = each.masked_fill(~batch.label_mask, 0.0)
        loss = (each * task_weights[batch.domains]).sum() / denominator
        sums = domain_sums(each.detach(), batch.domain_lengths)
        counts = domain_sums(batch.label_mask.float(), batch.domain_lengths)
    return loss, sums, counts
