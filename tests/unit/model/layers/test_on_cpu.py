"""Networks in their form for CPUs give what the plain ones do."""

import pytest
import torch
from torch import Tensor

from foundrank.model.heads.experts import ExpertGates
from foundrank.model.layers import on_cpu, plain
from foundrank.model.layers.axes import Axis
from foundrank.model.layers.dropout import Dropout
from foundrank.model.layers.forms import relu_networks

E, SIZE, WIDTHS = 3, 6, (8, 5, 4)
ROWS = 7
LENGTHS = [[ROWS], [3, 0, 4]]  # rows of each domain


def _parameters(dtype=torch.float32, domains=1) -> tuple[list[Tensor], list[Tensor]]:
    sizes = (SIZE, *WIDTHS)
    weights = [torch.randn(domains, E, o, i, dtype=dtype) for i, o in zip(sizes, WIDTHS, strict=False)]
    biases = [torch.randn(domains, E, o, dtype=dtype) for o in WIDTHS]
    return [w.requires_grad_() for w in weights], [b.requires_grad_() for b in biases]


def _inputs(count: int, rows: int = ROWS, dtype=torch.float32) -> list[Tensor]:
    return [torch.randn(rows, SIZE, dtype=dtype).requires_grad_() for _ in range(count)]


def _gradients(outputs: list[Tensor], *of) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return torch.autograd.grad(
        sum((x.float() * torch.randn(x.shape)).sum() for x in outputs), [x for xs in of for x in xs]
    )


@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("count", [1, E])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_what_they_give_and_all_gradients_are_those_of_layers_one_by_one(lengths, count, share):
    torch.manual_seed(0)
    inputs, (weights, biases), dropout = _inputs(count), _parameters(domains=len(lengths)), Dropout(share)
    torch.manual_seed(2)
    found = relu_networks(inputs, weights, biases, lengths, dropout)
    torch.manual_seed(2)
    wanted = plain.relu_networks(inputs, weights, biases, lengths, dropout)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(
        _gradients(found, inputs, weights, biases), _gradients(wanted, inputs, weights, biases), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("count", [1, E])
@pytest.mark.parametrize("lengths", [[64], [20, 44]])
def test_in_bfloat16_they_are_near_what_they_are_in_float32(lengths, count):
    torch.manual_seed(0)
    inputs, (weights, biases), dropout = _inputs(count, rows=64), _parameters(domains=len(lengths)), Dropout(0.0)
    narrow = [[x.detach().bfloat16().requires_grad_() for x in xs] for xs in (inputs, weights, biases)]
    # From the values that bfloat16 has: a rounded weight may put a unit on the other side of 0.
    inputs, weights, biases = [[x.detach().float().requires_grad_() for x in xs] for xs in narrow]
    wanted = plain.relu_networks(inputs, weights, biases, lengths, dropout)
    found = relu_networks(*narrow, lengths, dropout)
    for ours, theirs in zip(
        (*found, *_gradients(found, *narrow)),
        (*wanted, *_gradients(wanted, inputs, weights, biases)),
        strict=True,
    ):
        assert ours.dtype == torch.bfloat16
        assert (ours.float() - theirs).norm() < 0.1 * theirs.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [[0], [0, 0]])
def test_no_rows(lengths, dtype):
    inputs, (weights, biases) = _inputs(1, 0, dtype), _parameters(dtype, len(lengths))
    found = relu_networks(inputs, weights, biases, lengths, Dropout(0.0))
    assert [x.shape for x in found] == [(0, WIDTHS[-1])] * E
    assert not any(g.any() for g in _gradients(found, inputs, weights, biases))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_columns_from_which_nothing_is_learned_get_no_gradient_and_change_no_other(lengths):
    torch.manual_seed(0)
    inputs, (weights, biases), dropout = _inputs(1), _parameters(domains=len(lengths)), Dropout(0.0)
    learned = (slice(0, 2), slice(5, 6))
    all_of_it = _gradients(relu_networks(inputs, weights, biases, lengths, dropout), inputs, weights, biases)
    some = _gradients(relu_networks(inputs, weights, biases, lengths, dropout, learned), inputs, weights, biases)
    wanted = all_of_it[0].clone()
    wanted[:, 2:5] = 0
    torch.testing.assert_close(some, (wanted, *all_of_it[1:]))


def test_inputs_that_are_data_get_no_gradient():
    (weights, biases), [x] = _parameters(), _inputs(1)
    found = relu_networks([x.detach()], weights, biases, [ROWS], Dropout(0.0))
    assert all(g.any() for g in _gradients(found, weights, biases))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_what_is_frozen_gets_no_gradient_and_changes_no_other(lengths):
    torch.manual_seed(0)
    inputs, (weights, biases), dropout = _inputs(1), _parameters(domains=len(lengths)), Dropout(0.0)
    wanted = _gradients(plain.relu_networks(inputs, weights, biases, lengths, dropout), inputs, weights[1:], biases[:1])
    for frozen in (weights[0], *biases[1:]):
        frozen.requires_grad_(False)
    found = _gradients(relu_networks(inputs, weights, biases, lengths, dropout), inputs, weights[1:], biases[:1])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_mixtures_are_weighted_sums():
    gates, experts = torch.rand(2, 3, 5), list(torch.randn(3, 5, 4).unbind())
    for mixtures in (plain.mixtures, on_cpu.mixtures):
        for weights, mixture in zip(gates, mixtures(gates, experts), strict=True):
            torch.testing.assert_close(mixture, sum(w[:, None] * e for w, e in zip(weights, experts, strict=True)))


def test_gradients_of_mixtures_are_right():
    torch.manual_seed(0)
    gates = ExpertGates(Axis("domain", 2), Axis("task", 2), E, Axis("in", SIZE)).double()
    z = torch.randn(5, SIZE, dtype=torch.float64, requires_grad=True)
    # The gates themselves are float32 at their softmax: steps of this size are told from its rounding.
    experts = [torch.randn(5, 4, dtype=torch.float64, requires_grad=True) for _ in range(E)]
    assert torch.autograd.gradcheck(lambda *xs: gates(z.detach(), xs, [3, 2]), experts)
    assert torch.autograd.gradcheck(lambda x: gates(x, experts, [3, 2]), z, eps=1e-2, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("rows", [0, 7, 2048, 5000])
@pytest.mark.parametrize("count", [1, E])
def test_without_a_graph_they_give_the_same(count, rows, share):
    inputs, (weights, biases), dropout = _inputs(count, rows), _parameters(), Dropout(share).eval()
    wanted = relu_networks(inputs, weights, biases, [rows], dropout)
    with torch.no_grad():
        found = relu_networks(inputs, weights, biases, [rows], dropout)
        silenced = relu_networks(inputs, weights, biases, [rows], dropout.train())
    for one, other, some in zip(found, wanted, silenced, strict=True):
        torch.testing.assert_close(one, other)
        assert not share or rows < 100 or (some == 0).float().mean() > 0.3
