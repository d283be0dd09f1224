"""List losses against loops by hand, and what holds of all of them."""

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.batch.batch import Batch
from foundrank.data.batch.result_lists import ResultLists, result_lists
from foundrank.data.config.load import load_experiment
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.foundation.transfer import transferred
from foundrank.model.kinds import KINDS
from foundrank.model.layers.axes import axes_of
from foundrank.model.losses import LIST_LOSSES
from foundrank.model.losses.jrc import JRC
from foundrank.model.losses.list_loss import ListLoss, ListRows
from foundrank.model.losses.list_losses import ListLosses
from foundrank.model.losses.pairwise import Pairwise
from foundrank.model.losses.softmax import Softmax
from foundrank.model.representation.embedding_tables import materialise
from tests.tiny_world import experiment_dict

LOSSES = [Softmax(), Pairwise(), Pairwise(lambda_weights=True), JRC()]
IDS = [f"{type(loss).__name__}{'-lambda' * getattr(loss, 'lambda_weights', False)}" for loss in LOSSES]
EACH = pytest.mark.parametrize("loss", LOSSES, ids=IDS)


def lists_of(lengths: list[int]) -> ResultLists:
    begins = np.zeros(sum(lengths), bool)
    begins[np.cumsum([0, *lengths])[:-1]] = True
    found = result_lists([begins], [len(begins)])
    assert found is not None
    return found


Row = tuple[float, float, float]  # logit, gain, middle


def softmax(rows: list[Row]) -> float:
    total, target = sum(math.exp(z) for z, _, _ in rows), sum(g for _, g, _ in rows)
    return -sum(g / target * math.log(math.exp(z) / total) for z, g, _ in rows)


def pairwise(rows: list[Row]) -> float:
    found = [math.log1p(math.exp(b[0] - a[0])) for a in rows for b in rows if a[1] > b[1]]
    return sum(found) / len(found)


def lambda_rank(rows: list[Row]) -> float:
    def ndcg(order: list[Row]) -> float:
        ideal = sorted((g for _, g, _ in order), reverse=True)
        dcg, most = (
            sum(g / math.log2(2 + at) for at, g in enumerate(gains)) for gains in ([r[1] for r in order], ideal)
        )
        return dcg / most

    order, loss = sorted(rows, key=lambda row: -row[0]), 0.0
    for a in range(len(order)):
        for b in range(len(order)):
            if order[a][1] > order[b][1]:
                swapped = list(order)
                swapped[a], swapped[b] = order[b], order[a]
                gap = order[b][0] - order[a][0]
                loss += abs(ndcg(order) - ndcg(swapped)) * math.log1p(math.exp(gap))
    return loss


def jrc(rows: list[Row]) -> float:
    def logit(row: Row, positive: bool) -> float:
        return row[2] + (row[0] if positive else -row[0]) / 2

    terms = [
        math.log(math.exp(logit(row, row[1] > 0)) / sum(math.exp(logit(other, row[1] > 0)) for other in rows))
        for row in rows
    ]
    return -sum(terms) / len(rows)


BY_HAND: list[Any] = [softmax, pairwise, lambda_rank, jrc]
ROW = st.tuples(
    st.floats(-4, 4, width=16), st.integers(0, 3), st.floats(-2, 2, width=16), st.sampled_from([True, True, False])
)


@pytest.mark.parametrize(("loss", "by_hand"), zip(LOSSES, BY_HAND, strict=True), ids=IDS)
@settings(max_examples=30)
@given(lists=st.lists(st.lists(ROW, min_size=1, max_size=6), max_size=5))
def test_a_list_at_a_time_by_hand(loss: ListLoss, by_hand, lists):
    if by_hand is lambda_rank:  # equal logits have the order of the rows, by which a loop sorts, too
        lists = [[row for row in each if row[3]] + [row for row in each if not row[3]] for each in lists]
    every = [row for each in lists for row in each]
    logits, gains, middle = (torch.tensor([row[n] for row in every], dtype=torch.float32) for n in range(3))
    present = torch.tensor([row[3] for row in every], dtype=torch.bool)
    gains = gains.masked_fill(~present, 0.0)
    rows = ListRows(lists_of([len(each) for each in lists]), present)
    found, differ = loss.loss(logits, gains, rows, middle[:, None]), rows.differ(gains)
    assert found.isfinite().all()
    for each, value, counts in zip(lists, found, differ, strict=True):
        seen = [(float(z), float(g), float(m)) for z, g, m, there in each if there]
        assert counts.item() == (len({g for _, g, _ in seen}) > 1)
        if counts:
            assert value.item() == pytest.approx(by_hand(seen), rel=1e-4, abs=1e-5)


@EACH
def test_gradients_are_those_of_finite_differences(loss: ListLoss):
    torch.manual_seed(0)
    lists, gains = lists_of([4, 1, 5, 2]), torch.tensor([1.0, 0, 0, 2, 1, 0, 0, 1, 0, 3, 0, 1], dtype=torch.float64)
    logits, middle = torch.randn(2, 12, dtype=torch.float64).requires_grad_().unbind()
    rows = ListRows(lists, torch.arange(12) != 6)
    total = lambda logits, middle: loss.loss(logits, gains, rows, middle[:, None])[rows.differ(gains)].sum()  # noqa: E731
    if (
        isinstance(loss, Pairwise) and loss.lambda_weights
    ):  # weights are not differentiated; between swaps they are constant
        assert torch.autograd.gradcheck(lambda z: total(z, middle.detach()), logits.detach().requires_grad_(), eps=1e-7)
    else:
        assert torch.autograd.gradcheck(total, (logits.detach().requires_grad_(), middle.detach().requires_grad_()))


@EACH
def test_a_better_order_loses_less(loss: ListLoss):
    rows = ListRows(lists_of([3]), torch.ones(3, dtype=torch.bool))
    gains, middle = torch.tensor([1.0, 0.0, 0.0]), torch.zeros(3, 1)
    right, wrong = (loss.loss(torch.tensor(z), gains, rows, middle) for z in ([2.0, 0.0, -1.0], [-1.0, 0.0, 2.0]))
    assert right < wrong


@EACH
def test_large_logits_are_fine(loss: ListLoss):
    rows = ListRows(lists_of([3, 2]), torch.tensor([True, True, True, False, False]))
    logits = torch.tensor([1e4, -1e4, 3e4, 0.0, 0.0]).requires_grad_()
    found = loss.loss(logits, torch.tensor([0.0, 1.0, 0, 0, 0]), rows, torch.zeros(5, 1))
    found.sum().backward()
    assert found.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@EACH
def test_no_rows(loss: ListLoss):
    logits = torch.zeros(0, requires_grad=True)
    rows = ListRows(lists_of([]), torch.zeros(0, dtype=torch.bool))
    loss.loss(logits, torch.zeros(0), rows, torch.zeros(0, 1)).sum().backward()
    assert logits.grad is not None


@pytest.fixture(scope="module")
def of(layout):
    """The layout with a list loss of clicks in the first two domains, twice as heavy in the second."""

    def make(loss: ListLoss):
        heavy = loss.model_copy(update={"weight": 2.0})
        further = [(f"click/{output}", f"list/{output}") for output in loss.outputs]
        names, kinds = ([pair[n] for pair in further] for n in (0, 1))
        return replace(
            layout,
            list_losses=((loss, None), (heavy, None), (None, None)),
            outputs=(*layout.outputs, *names),
            output_kinds=(*layout.output_kinds, *kinds),
            output_tasks=(*layout.output_tasks, *([0] * len(further))),
        )

    return make


@EACH
def test_lists_count_as_their_rows_in_their_domains(of, make_batch, loss: ListLoss):
    layout = of(loss)
    batch = make_batch(layout, [5, 6, 4])
    batch.labels[:, 0] = torch.tensor([1, 0, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0]).float()
    batch.label_mask[:, 0] = torch.arange(15) != 2
    batch.lists = lists_of([3, 2, 2, 3, 1, 4])
    logits = torch.randn(15, len(layout.outputs), generator=torch.Generator().manual_seed(0), requires_grad=True)
    total, (sums, counts) = ListLosses(layout, 10)(logits, batch)
    # The first list has two labelled rows; in the fourth all labels are 1; the third domain has no list loss.
    parts = []
    for first, last, weight in ((0, 3, 2.0), (3, 5, 2.0), (5, 7, 4.0)):
        rows = ListRows(lists_of([last - first]), batch.label_mask[first:last, 0])
        own = logits.detach()[first:last]
        gains = batch.labels[first:last, 0].masked_fill(~rows.present, 0.0)
        parts.append((loss.loss(own[:, 0], gains, rows, own[:, -1:]).item(), weight))
    assert total.item() == pytest.approx(sum(value * weight for value, weight in parts) / 10, rel=1e-5)
    torch.testing.assert_close(counts, torch.tensor([[4.0, 0], [2, 0], [0, 0]]))
    torch.testing.assert_close(sums[:, 0], torch.tensor([2 * parts[0][0] + 2 * parts[1][0], 2 * parts[2][0], 0.0]))
    total.backward()
    assert logits.grad is not None
    moved = logits.grad.abs().sum(1) > 0
    assert moved.tolist() == [True, True, False, True, True, True, True, *[False] * 8]


def test_a_list_weighs_as_its_rows(of, make_batch):
    layout = of(Softmax())
    batch, losses = make_batch(layout, [4, 0, 0]), ListLosses(layout, 4)
    batch.labels[:, 0], batch.label_mask[:, 0] = torch.tensor([1.0, 0.0, 0.0, 1.0]), True
    batch.lists, logits = lists_of([4]), torch.randn(4, len(layout.outputs))
    plain, of_three = losses(logits, batch)[0], losses(logits[:3], without_last(batch))[0]
    batch.weights = torch.tensor([1.0, 3.0, 0.5, 1.5])[:, None].expand(4, 2)
    torch.testing.assert_close(losses(logits, batch)[0], plain * 6 / 4)
    batch.weights = torch.tensor([1.0, 1.0, 1.0, 0.0])[:, None].expand(4, 2)
    torch.testing.assert_close(losses(logits, batch)[0], of_three)


def without_last(batch: Batch) -> Batch:
    part = replace(batch, labels=batch.labels[:-1], label_mask=batch.label_mask[:-1], domains=batch.domains[:-1])
    return replace(part, domain_lengths=[batch.rows - 1, 0, 0], lists=lists_of([batch.rows - 1]))


@EACH
def test_batches_add_up_and_no_list_sees_another(of, make_batch, loss: ListLoss):
    layout = of(loss)
    whole, losses = make_batch(layout, [7, 6, 0]), ListLosses(layout, 13)
    whole.lists = lists_of([3, 4, 2, 4])
    logits = torch.randn(13, len(layout.outputs), generator=torch.Generator().manual_seed(1))
    parts = torch.zeros(())
    for rows, lengths in ((slice(0, 3), [3]), (slice(3, 13), [4, 2, 4])):
        part = make_batch(layout, [0, 0, 0])
        part.labels, part.label_mask, part.domains = whole.labels[rows], whole.label_mask[rows], whole.domains[rows]
        part.domain_lengths, part.lists = part.domains.bincount(minlength=3).tolist(), lists_of(lengths)
        parts += losses(logits[rows], part)[0]
    torch.testing.assert_close(losses(logits, whole)[0], parts)


@EACH
def test_bfloat16_comes_out_as_float32(of, make_batch, loss: ListLoss):
    layout = of(loss)
    batch = make_batch(layout, [4, 4, 0])
    batch.lists = lists_of([4, 4])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, told = ListLosses(layout, 8)(torch.randn(8, len(layout.outputs)).bfloat16(), batch)
    assert found.dtype == told.dtype == torch.float32


def test_without_lists_in_a_batch_there_is_no_loss(of, make_batch):
    layout = of(Softmax())
    total, told = ListLosses(layout, 8)(torch.randn(4, 2), make_batch(layout, [0, 0, 4]))
    assert total == 0
    assert not told.any()


@pytest.mark.parametrize("rows", [[4, 3, 2], [0, 0, 5], [0, 0, 0]])
def test_all_parameters_get_gradients_and_probabilities_are_of_the_first_output(of, config, make_batch, rows):
    layout = of(JRC())
    torch.manual_seed(0)
    model = Foundation(layout, config(), batch_size=16)
    materialise(model, seed=1)
    batch = make_batch(layout, rows, padding=2)
    plain, without = model(batch)
    assert without.list_losses is not None
    assert not without.list_losses.any()
    batch.lists = lists_of([rows[0], rows[1], rows[2]]) if all(rows) else None
    loss, out = model(batch)
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.dense.parameters())
    assert (loss > plain).item() == all(rows)
    torch.testing.assert_close(out.losses, without.losses)
    assert out.logits.shape == (sum(rows), 3)
    scores = model.dense.tasks.scores(out.logits)
    torch.testing.assert_close(scores, out.logits[:, :2].sigmoid())


def test_fine_tuning_may_bring_a_list_loss_or_leave_it_out(layout, of, config, make_batch):
    batch, found = make_batch(layout, [3, 2, 4]), []
    plain, ranked = (Foundation(each, config(), batch_size=16).eval() for each in (layout, of(JRC())))
    for model in (plain, ranked):
        materialise(model, seed=1)
    for old, new in ((plain, ranked), (ranked, plain)):
        values, (before, after) = dict(old.dense.named_parameters()), (axes_of(model.dense) for model in (old, new))
        with torch.no_grad():
            for name, parameter in new.dense.named_parameters():
                parameter.copy_(transferred(values[name], before[name], after[name], {}))
            assert all(parameter.isfinite().all() for parameter in new.dense.parameters())
            found += [model.dense.tasks.scores(model(batch)[1].logits) for model in (old, new)]
    for scores in found[1:]:
        torch.testing.assert_close(scores, found[0])


class Hinge(ListLoss):
    """The best positive should be a margin ahead of the best negative."""

    kind: Literal["hinge"] = "hinge"
    margin: float = 1.0

    def loss(self, logits: torch.Tensor, gains: torch.Tensor, rows: ListRows, further: torch.Tensor) -> torch.Tensor:
        hidden = (gains <= 0, gains > 0)
        best, other = (rows.max(logits.masked_fill(of, -1e4)).clamp_min(-1e4) for of in hidden)
        return (self.margin - best + other).clamp_min(0.0)


def test_a_loss_of_one_s_own(of, make_batch):
    raw = experiment_dict()
    raw["domains"]["home"]["tasks"]["click"]["list_loss"] = {"kind": "hinge", "margin": 2.0, "weight": 3.0}
    kinds = KINDS.with_(list_losses={"hinge": Hinge})
    loss = load_experiment(raw, kinds=kinds).domains["home"].tasks["click"].list_loss
    assert (type(loss), loss.margin, loss.weight) == (Hinge, 2.0, 3.0)
    batch = make_batch(of(loss), [3, 0, 0])
    batch.labels[:, 0], batch.label_mask[:, 0] = torch.tensor([1.0, 0.0, 0.0]), True
    batch.lists, logits = lists_of([3]), torch.tensor([[0.5, 0.0], [1.0, 0.0], [-3.0, 0.0]], requires_grad=True)
    found, _ = ListLosses(of(loss), 3)(logits, batch)
    found.backward()
    assert found.item() == pytest.approx(3 * (2.0 - 0.5 + 1.0))
    assert logits.grad is not None
    assert logits.grad[:, 0].tolist() == [-3.0, 3.0, 0.0]


def test_every_kind_is_tested():
    assert {type(loss) for loss in LOSSES} == set(LIST_LOSSES.values())
