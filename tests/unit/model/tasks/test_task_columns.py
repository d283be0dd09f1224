import pytest
import torch

from foundrank.data.config.sections.task import Scale, alike
from foundrank.model.tasks.binary import Binary
from foundrank.model.tasks.task_columns import TaskColumns

from ....toy_task import Amount, Band

CLICK, SPENT, SAVED = Binary(label="clicked"), Amount(label="spent", unit=10.0), Amount(label="saved", unit=2.0)
LOGITS = torch.tensor([[0.5, -1.0, 3.0], [2.0, 9.0, 0.25]])
LABELS = torch.tensor([[1.0, 5.0, 0.0], [0.0, 20.0, 4.0]])


@pytest.mark.parametrize("tasks", [(CLICK, SPENT, SAVED), (SPENT, CLICK, SAVED), (SAVED, SPENT, CLICK), (CLICK,) * 3])
def test_each_column_is_computed_by_its_own_kind(tasks):
    columns = TaskColumns(tasks)
    losses, scores = columns.losses(LOGITS, LABELS), columns.scores(LOGITS)
    for at, task in enumerate(tasks):
        torch.testing.assert_close(losses[:, at], task.losses(LOGITS[:, at], LABELS[:, at], Scale()))
        torch.testing.assert_close(scores[:, at], task.scores(LOGITS[:, at], Scale()))


@pytest.mark.parametrize("before", [(), (CLICK,), (SPENT, CLICK)])
@pytest.mark.parametrize("after", [(), (SPENT,)])
def test_a_task_with_several_outputs_has_its_own_scale(before, after):
    """Two tasks of the kind are alike, but for their scales."""
    bands, scales = (Band(label="paid"), Band(label="due")), (Scale(10.0, 2.0), Scale(7.0, 5.0))
    tasks = (*before, *bands, *after)
    of_each = (*[Scale()] * len(before), *scales, *[Scale()] * len(after))
    logits = torch.randn(3, len(tasks) + 2)
    logits[1, len(before) + 1] = torch.inf  # the width of the first
    labels = torch.rand(3, len(tasks))
    columns = TaskColumns(tasks, of_each)
    losses, scores = columns.losses(logits, labels), columns.scores(logits)
    assert losses.shape == scores.shape == labels.shape
    for at, (band, scale) in enumerate(zip(bands, scales, strict=True)):
        of_band = logits[:, len(before) + 2 * at : len(before) + 2 * at + 2]
        torch.testing.assert_close(
            losses[:, len(before) + at], band.losses(of_band, labels[:, len(before) + at], scale)
        )
        wanted = band.scores(of_band, scale)
        wanted[1] = torch.nan if at == 0 else wanted[1]
        torch.testing.assert_close(scores[:, len(before) + at], wanted, equal_nan=True)
    if after:
        torch.testing.assert_close(scores[:, -1], SPENT.scores(logits[:, -1], Scale()))


def test_tasks_that_are_alike_and_of_one_scale_are_computed_together():
    bands, logits, labels = (Band(label="paid"), Band(label="due")), torch.randn(3, 4), torch.rand(3, 2)
    columns, scale = TaskColumns(bands, [Scale(1.0, 2.0)] * 2), Scale(1.0, 2.0)
    wanted = [band.losses(logits[:, 2 * at : 2 * at + 2], labels[:, at], scale) for at, band in enumerate(bands)]
    torch.testing.assert_close(columns.losses(logits, labels), torch.stack(wanted, 1))
    assert columns.losses(logits[:0], labels[:0]).shape == (0, 2)


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
