"""The tasks of a batch's columns: each column's loss and scores are those of its kind."""

from collections.abc import Callable, Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.config.sections.task import Scale, Task, alike


class _Alike(NamedTuple):
    """Tasks that are computed together.

    Attributes:
        task: any of them.
        scale: of their labels.
        columns: of labels, losses and scores.
        outputs: of logits, the first of each task; the task's others come right after it.
    """

    task: Task
    scale: Scale
    columns: list[int]
    outputs: list[int]


class TaskColumns:
    """T tasks, one per column of the labels, with O >= T outputs, the columns of the logits: each task's lie side by side, and
    further ones, of list losses, behind them all.

    Tasks that are alike, with labels of the same scale, are computed together.
    """

    def __init__(
        self, tasks: Sequence[Task], scales: Sequence[Scale] | None = None, parents: Sequence[int | None] | None = None
    ):
        """Args: the task of each column, of any domain that has it; the scale of each one's labels, if any needs it; which task each
        one is given, if any is given one."""
        self._alike: list[_Alike] = []
        self._outputs = 0
        for column, (task, scale) in enumerate(zip(tasks, scales or [Scale()] * len(tasks), strict=True)):
            group = next((g for g in self._alike if alike(g.task, task) and g.scale == scale), None)
            if group is None:
                self._alike.append(group := _Alike(task, scale, [], []))
            group.columns.append(column)
            group.outputs.append(self._outputs)
            self._outputs += len(task.outputs)
        self._given = _in_order(tasks, parents or [None] * len(tasks))

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """``[B, T]`` loss of each label, of logits ``[B, O]`` and labels ``[B, T]``; what it is where there is no label means
        nothing.
        """
        logits = self.joint(logits)
        return self._each(lambda of, logits, labels: of.task.losses(logits, labels, of.scale), logits, labels)

    def scores(self, logits: Tensor) -> Tensor:
        """``[B, T]`` scores of logits ``[B, O]``; NaN where no number came out, infinite logits included."""
        return self._each(_finite_scores, self.joint(logits))

    def joint(self, logits: Tensor) -> Tensor:
        """``[B, O]`` logits of what the labels say: of a task that is given others, of the probability that all of them happen, which
        is the product of theirs; the others as they are. NaN where one of them is not finite.

        Source: Ma et al., Entire Space Multi-Task Model (2018).
        """
        if not self._given:
            return logits
        columns = list(logits.unbind(1))
        for child, parent in self._given:
            columns[child] = _both(columns[parent], columns[child])
        return torch.stack(columns, 1)

    def _each(self, compute: Callable[..., Tensor], logits: Tensor, *columns: Tensor) -> Tensor:
        if len(self._alike) == 1:
            (of,) = self._alike
            wide = len(of.task.outputs)
            if logits.shape[1] > self._outputs:
                logits = logits[:, : self._outputs]
            return compute(of, logits if wide == 1 else logits.unflatten(1, (len(of.columns), wide)), *columns)
        out: dict[int, Tensor] = {}
        for of in self._alike:
            wide = len(of.task.outputs)
            # Slices and no index, which would have to be copied to a GPU in every step.
            of_these = torch.stack([logits[:, at] if wide == 1 else logits[:, at : at + wide] for at in of.outputs], 1)
            found = compute(of, of_these, *(torch.stack([every[:, at] for at in of.columns], 1) for every in columns))
            out |= dict(zip(of.columns, found.unbind(1), strict=True))
        return torch.stack([out[column] for column in sorted(out)], 1)


def _in_order(tasks: Sequence[Task], parents: Sequence[int | None]) -> list[tuple[int, int]]:
    """Pairs of outputs, of a task and of the one that it is given; one that is given another itself comes as a task first."""
    outputs = [sum(len(task.outputs) for task in tasks[:at]) for at in range(len(tasks))]
    graph = {at: [parent] for at, parent in enumerate(parents) if parent is not None}
    order = TopologicalSorter(graph).static_order() if graph else ()
    return [(outputs[at], outputs[graph[at][0]]) for at in order if at in graph]


def _both(first: Tensor, second: Tensor) -> Tensor:
    """Logit of the product of two probabilities, of their logits. By logarithms of sums: no 1 - p that rounding could make 0."""
    happens = F.logsigmoid(first) + F.logsigmoid(second)
    fails = torch.logaddexp(F.logsigmoid(-first), F.logsigmoid(first) + F.logsigmoid(-second))
    return torch.where(first.isfinite() & second.isfinite(), happens - fails, torch.nan)


def _finite_scores(of: _Alike, logits: Tensor) -> Tensor:
    scores, finite = of.task.scores(logits, of.scale), logits.isfinite()
    return torch.where((finite if len(of.task.outputs) == 1 else finite.all(-1)) & scores.isfinite(), scores, torch.nan)
