"""One product for all networks and domains gives what a product for each does."""

import pytest
import torch
import torch.nn.functional as F

from foundrank.model.layers import stacked
from foundrank.model.layers.dropout import Dropout
from foundrank.model.layers.grouped import grouped_linear
from foundrank.model.layers.relu_networks import relu_networks

CASES = [  # domains' rows, networks, whether they see the same
    ([50], 3, True),
    ([50], 2, False),
    ([10, 0, 25, 15], 3, True),
    ([10, 0, 25, 15], 2, False),
    ([0, 0, 50], 1, True),
    ([0, 0], 2, True),
]


def tensors(lengths, networks, shared, dtype, device="cpu"):
    """Inputs, weights and biases of two layers."""
    generator = torch.Generator().manual_seed(0)

    def some(*shape):
        return torch.randn(*shape, generator=generator).to(device, dtype).requires_grad_()

    inputs = [some(sum(lengths), 16) for _ in range(1 if shared else networks)]
    weights = [some(len(lengths), networks, out, size) for out, size in ((24, 16), (8, 24))]
    return inputs, weights, [some(len(lengths), networks, out) for out in (24, 8)]


def with_gradients(layers, inputs, weights, biases, lengths):
    outputs = layers(inputs, weights, biases, lengths, Dropout(0.0))
    total = sum((output.float() * (at + 1)).sum() for at, output in enumerate(outputs))
    return [*outputs, *torch.autograd.grad(total, [*inputs, *weights, *biases])]


@pytest.mark.parametrize(("lengths", "networks", "shared"), CASES)
def test_networks_side_by_side(lengths, networks, shared):
    given = tensors(lengths, networks, shared, torch.float32)
    wanted = with_gradients(relu_networks, *given, lengths)
    found = with_gradients(stacked.stacked_relu_networks, *given, lengths)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_layer_per_domain():
    (x,), (weight, _), (bias, _) = tensors([10, 0, 25, 15], 1, True, torch.float32)
    wanted = grouped_linear(x, weight[:, 0], bias[:, 0], [10, 0, 25, 15])
    torch.testing.assert_close(stacked.grouped_product(x, weight[:, 0], bias[:, 0], [10, 0, 25, 15]), wanted)


def test_what_belongs_to_a_row_s_domain():
    x = torch.randn(5, 3, 2)
    found = stacked.of_own_domain(x, [2, 0, 3])
    assert torch.equal(found, torch.cat([x[:2, 0], x[2:, 2]]))
    assert stacked.domain_members([2, 0, 3], x.device).int().sum(0).tolist() == [2, 0, 3]


def test_rows_get_what_their_domain_has_to_the_bit():
    values = torch.randn(3, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = stacked.to_rows(values, [2, 0, 3])
    assert torch.equal(rows, values[[0, 0, 2, 2, 2]])
    (gradient,) = torch.autograd.grad((rows * torch.arange(5.0)[:, None]).sum(), values)
    assert torch.equal(gradient, torch.tensor([1.0, 0, 9])[:, None].expand(3, 4))
    assert torch.equal(stacked.domain_sums(torch.ones(5, 2), [2, 0, 3]), torch.tensor([[2.0], [0], [3]]).expand(3, 2))


def test_mixtures_are_weighted_sums():
    gates, experts = torch.rand(2, 3, 5), list(torch.randn(3, 5, 4).unbind())
    for weights, mixture in zip(gates, stacked.mixtures(gates, experts), strict=True):
        torch.testing.assert_close(mixture, sum(w[:, None] * e for w, e in zip(weights, experts, strict=True)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("lengths", "networks", "shared"), CASES)
def test_networks_on_a_gpu(lengths, networks, shared, dtype):
    wanted = with_gradients(relu_networks, *tensors(lengths, networks, shared, dtype), lengths)
    found = with_gradients(relu_networks, *tensors(lengths, networks, shared, dtype, "cuda"), lengths)
    for one, other in zip(found, wanted, strict=True):
        error = (one.detach().float().cpu() - other.float()).norm() / other.float().norm().clamp_min(1e-6)
        assert error < (1e-4 if dtype == torch.float32 else 0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_takes_the_stacked_way(monkeypatch):
    def none(*arguments):
        raise AssertionError

    monkeypatch.setattr("foundrank.model.layers.relu_networks.products", none)
    inputs, weights, biases = tensors([30, 20], 2, True, torch.bfloat16, "cuda")
    [out, _] = relu_networks(inputs, weights, biases, [30, 20], Dropout(0.0))
    assert out.isfinite().all()
    assert F.relu(out).equal(out)
