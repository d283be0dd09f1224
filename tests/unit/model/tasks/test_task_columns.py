import pytest
import torch

from foundrank.data.config.sections.task import alike
from foundrank.model.tasks.binary import Binary
from foundrank.model.tasks.task_columns import TaskColumns

from ....toy_task import Amount

CLICK, SPENT, SAVED = Binary(label="clicked"), Amount(label="spent", unit=10.0), Amount(label="saved", unit=2.0)
LOGITS = torch.tensor([[0.5, -1.0, 3.0], [2.0, 9.0, 0.25]])
LABELS = torch.tensor([[1.0, 5.0, 0.0], [0.0, 20.0, 4.0]])


@pytest.mark.parametrize("tasks", [(CLICK, SPENT, SAVED), (SPENT, CLICK, SAVED), (SAVED, SPENT, CLICK), (CLICK,) * 3])
def test_each_column_is_computed_by_its_own_kind(tasks):
    columns = TaskColumns(tasks)
    losses, scores = columns.losses(LOGITS, LABELS), columns.scores(LOGITS)
    for at, task in enumerate(tasks):
        torch.testing.assert_close(losses[:, at], task.loss(LOGITS[:, at], LABELS[:, at]))
        torch.testing.assert_close(scores[:, at], task.scores(LOGITS[:, at]))


def test_gradients_reach_every_column():
    logits = LOGITS.clone().requires_grad_()
    TaskColumns((CLICK, SPENT, CLICK)).losses(logits, LABELS).sum().backward()
    assert logits.grad is not None
    assert logits.grad.ne(0).all()


def test_what_is_no_number_is_nan():
    logits = torch.tensor([[torch.inf, 1.0], [-torch.inf, 3e38], [torch.nan, 2.0]])
    scores = TaskColumns((CLICK, SPENT)).scores(logits)
    assert scores.isfinite().tolist() == [[False, True], [False, False], [False, True]]


def test_tasks_are_alike_but_for_what_is_of_a_domain():
    assert alike(CLICK, Binary(label="other", weight=3.0, probability="truth"))
    assert alike(SPENT, Amount(label="other", unit=10.0, weight=2.0))
    assert not alike(SPENT, SAVED)
    assert not alike(CLICK, SPENT)
