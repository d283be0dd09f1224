"""The list losses of all tasks together."""

import torch
from torch import Tensor, nn

from ...data.batch.batch import Batch
from ...data.schema.layout import Layout
from ..layers.domain_rows import domain_sums
from .list_loss import ListLoss, ListRows


class ListLosses(nn.Module):
    """Sums the list losses of the tasks that have one, in the domains where they have it."""

    weights: Tensor

    def __init__(self, layout: Layout, batch_size: int):
        """Args: the layout; the nominal batch size, by which sums are divided."""
        super().__init__()
        self._batch_size = batch_size
        self._tasks = len(layout.tasks)
        self._each: list[tuple[int, list[int], ListLoss]] = []  # task, columns of its outputs, loss
        weights: list[list[float]] = []
        for task in range(len(layout.tasks)):
            alike: dict[ListLoss, list[float]] = {}
            for domain, of_domain in enumerate(layout.list_losses):
                if (loss := of_domain[task]) is not None:
                    # Weights apart, it is the same loss, computed once for all domains.
                    key = loss.model_copy(update={"weight": 1.0})
                    alike.setdefault(key, [0.0] * len(layout.domains))[domain] = loss.weight
            first = layout.output_tasks.index(task)
            for loss in alike:
                further = [layout.outputs.index(f"{layout.tasks[task]}/{output}") for output in loss.outputs]
                self._each.append((task, [first, *further], loss))
            weights += alike.values()
        self.register_buffer("weights", torch.tensor(weights), persistent=False)

    def forward(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """A list counts as much as its labelled rows, or their weights together; one whose labels are all the same adds nothing.

        So a weight of 1 sets a list loss level with the loss of each label, however long lists are. As there, the sum is divided by a
        fixed number. A row of weight 0 is no part of its list.

        Args:
            logits: ``[B, O]``.
            batch: B rows.

        Returns:
            The loss, a float32 scalar; and, detached, of each row of a list that counts, its list's loss, unweighted: the sums and how
            many rows these are, ``[2, domains, T]`` float32.
        """
        loss = logits.new_zeros((), dtype=torch.float32)
        nothing = logits.new_zeros(batch.rows, dtype=torch.float32)
        told, counted = [nothing] * self._tasks, [nothing] * self._tasks
        with torch.autocast(logits.device.type, enabled=False):
            for (task, columns, kind), weights in zip(self._each, self.weights.unbind(), strict=True):
                if batch.lists is None:
                    continue
                weight = weights[batch.domains]
                if batch.weights is not None:
                    weight = weight * batch.weights[:, task]
                rows = ListRows(batch.lists, batch.label_mask[:, task] & (weight > 0))
                gains = batch.labels[:, task].clamp_min(0.0).masked_fill(~rows.present, 0.0)
                own, *further = (logits[:, at].float().masked_fill(~rows.present, 0.0) for at in columns)
                beside = torch.stack(further, 1) if further else logits.new_zeros(batch.rows, 0)
                differ = rows.differ(gains)
                each = kind.loss(own, gains, rows, beside).masked_fill(~differ, 0.0)
                loss = loss + (each * rows.sum(weight)).sum() / self._batch_size
                counts = rows.present & rows.spread(differ)
                told[task] = told[task] + rows.spread(each) * counts
                counted[task] = counted[task] + counts.float()
            both = (domain_sums(torch.stack(columns, 1), batch.domain_lengths) for columns in (told, counted))
            return loss, torch.stack(list(both))
