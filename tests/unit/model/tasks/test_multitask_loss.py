import math

import pytest
import torch

from foundrank.model.tasks.binary import Binary
from foundrank.model.tasks.multitask_loss import multitask_loss
from foundrank.model.tasks.task_columns import TaskColumns

from ....toy_task import Amount


@pytest.fixture
def batch(layout, make_batch):
    batch = make_batch(layout, [2, 1, 0])
    batch.labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    batch.label_mask = torch.tensor([[True, True], [True, False], [True, False]])
    return batch


WEIGHTS = torch.tensor([[1.0, 2.0], [3.0, 0.0], [1.0, 0.0]])
TASKS = TaskColumns([Binary(label="click"), Binary(label="buy")])
LOGITS = torch.tensor([[0.5, -1.0], [2.0, 9.0], [-0.3, 9.0]])


def _bce(logit: float, label: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -math.log(p if label else 1 - p)


def test_loss_by_hand(batch):
    loss, sums, counts = multitask_loss(TASKS, LOGITS, batch, WEIGHTS, denominator=10)
    first, buy, second, third = _bce(0.5, 1), _bce(-1, 0), _bce(2, 0), _bce(-0.3, 1)
    assert loss.item() == pytest.approx((first + 2 * buy + second + 3 * third) / 10)
    torch.testing.assert_close(sums, torch.tensor([[first + second, buy], [third, 0], [0, 0]]))
    torch.testing.assert_close(counts, torch.tensor([[2.0, 1], [1, 0], [0, 0]]))


def test_labels_that_are_not_there_give_no_gradient(batch):
    logits = LOGITS.clone().requires_grad_()
    multitask_loss(TASKS, logits, batch, WEIGHTS, denominator=10)[0].backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.ne(0), batch.label_mask)


def test_float32_whatever_comes_in(batch):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = multitask_loss(TASKS, LOGITS.bfloat16(), batch, WEIGHTS, denominator=10)
    assert all(r.dtype == torch.float32 for r in results)


def test_parts_of_a_batch_add_up(layout, make_batch):
    whole, weights = make_batch(layout, [5, 4, 3]), torch.tensor(layout.task_weights)
    logits = torch.randn(12, 2)
    parts = 0.0
    for rows in (slice(0, 7), slice(7, 12)):
        part = make_batch(layout, [0, 0, 0])
        part.labels, part.label_mask, part.domains = whole.labels[rows], whole.label_mask[rows], whole.domains[rows]
        part.domain_lengths = part.domains.bincount(minlength=3).tolist()
        parts += multitask_loss(TASKS, logits[rows], part, weights, 12)[0]
    torch.testing.assert_close(parts, multitask_loss(TASKS, logits, whole, weights, 12)[0])


def test_kinds_may_be_mixed_and_each_is_masked(batch):
    tasks = TaskColumns([Binary(label="click"), Amount(label="spent", unit=2.0)])
    batch.labels[0, 1] = 3.0
    logits = LOGITS.clone().requires_grad_()
    loss, sums, counts = multitask_loss(tasks, logits, batch, WEIGHTS, denominator=10)
    first, spent, second, third = _bce(0.5, 1), (-1.0 - 1.5) ** 2, _bce(2, 0), _bce(-0.3, 1)
    assert loss.item() == pytest.approx((first + 2 * spent + second + 3 * third) / 10)
    torch.testing.assert_close(sums, torch.tensor([[first + second, spent], [third, 0], [0, 0]]))
    torch.testing.assert_close(counts, torch.tensor([[2.0, 1], [1, 0], [0, 0]]))
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.ne(0), batch.label_mask)


def test_labels_count_by_their_weights(batch):
    batch.weights = torch.tensor([[0.5, 3.0], [0.0, 7.0], [2.0, 1.0]])
    logits = LOGITS.clone()
    logits[1, 0] = -200.0
    batch.labels[1, 0] = 1.0  # a label of weight 0 counts nowhere, whatever its loss
    logits.requires_grad_()
    loss, sums, counts = multitask_loss(TASKS, logits, batch, WEIGHTS, denominator=10)
    first, buy, third = _bce(0.5, 1), _bce(-1, 0), _bce(-0.3, 1)
    assert loss.item() == pytest.approx((0.5 * first + 3 * 2 * buy + 2 * 3 * third) / 10)
    torch.testing.assert_close(sums, torch.tensor([[0.5 * first, 3 * buy], [2 * third, 0], [0, 0]]))
    torch.testing.assert_close(counts, torch.tensor([[0.5, 3.0], [2.0, 0], [0, 0]]))
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.ne(0), torch.tensor([[True, True], [False, False], [True, False]]))


def test_weights_of_1_change_no_bit(batch):
    without = multitask_loss(TASKS, LOGITS, batch, WEIGHTS, denominator=10)
    batch.weights = torch.ones(3, 2)
    assert all(
        torch.equal(a, b)
        for a, b in zip(multitask_loss(TASKS, LOGITS, batch, WEIGHTS, denominator=10), without, strict=True)
    )
