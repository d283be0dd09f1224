"""The tasks of a batch's columns: each column's loss and scores are those of its kind."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...data.config.sections.task import Task, alike


class TaskColumns:
    """T tasks, one per column of the logits and labels. Those that are alike are computed together."""

    def __init__(self, tasks: Sequence[Task]):
        """Args: the task of each column, of any domain that has it."""
        self._alike: list[tuple[Task, list[int]]] = []
        for column, task in enumerate(tasks):
            group = next((columns for other, columns in self._alike if alike(other, task)), None)
            if group is None:
                self._alike.append((task, [column]))
            else:
                group.append(column)

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """``[B, T]`` loss of each label, of logits and labels ``[B, T]``; what it is where there is no label means nothing."""
        return self._each(lambda task, of_task, wanted: task.loss(of_task, wanted), logits, labels)

    def scores(self, logits: Tensor) -> Tensor:
        """``[B, T]`` scores of logits ``[B, T]``; NaN where no number came out, infinite logits included."""
        scores = self._each(lambda task, of_task: task.scores(of_task), logits)
        return torch.where(logits.isfinite() & scores.isfinite(), scores, torch.nan)

    def _each(self, compute: Callable[..., Tensor], *columns: Tensor) -> Tensor:
        if len(self._alike) == 1:
            return compute(self._alike[0][0], *columns)
        out: dict[int, Tensor] = {}
        for task, at in self._alike:
            # Slices and no index, which would have to be copied to a GPU in every step.
            found = compute(task, *(torch.stack([every[:, column] for column in at], 1) for every in columns))
            out |= dict(zip(at, found.unbind(1), strict=True))
        return torch.stack([out[column] for column in sorted(out)], 1)
