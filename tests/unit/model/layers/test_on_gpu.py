"""One product for all networks and domains gives what a product for each does."""

import pytest
import torch
import torch.nn.functional as F

from foundrank.model.layers import forms, on_gpu, plain
from foundrank.model.layers.dropout import Dropout
from foundrank.model.layers.forms import relu_networks

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
    wanted = with_gradients(plain.relu_networks, *given, lengths)
    found = with_gradients(on_gpu.relu_networks, *given, lengths)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_layer_per_domain():
    (x,), (weight, _), (bias, _) = tensors([10, 0, 25, 15], 1, True, torch.float32)
    wanted = plain.grouped_linear(x, weight[:, 0], bias[:, 0], [10, 0, 25, 15])
    torch.testing.assert_close(on_gpu.grouped_linear(x, weight[:, 0], bias[:, 0], [10, 0, 25, 15]), wanted)


def test_logits():
    xs, weight, bias = list(torch.randn(2, 5, 4).unbind()), torch.randn(3, 2, 4), torch.randn(3, 2)
    torch.testing.assert_close(
        on_gpu.tower_logits(xs, weight, bias, [2, 0, 3]), forms.tower_logits(xs, weight, bias, [2, 0, 3])
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("lengths", "networks", "shared"), CASES)
def test_networks_on_a_gpu(lengths, networks, shared, dtype):
    wanted = with_gradients(plain.relu_networks, *tensors(lengths, networks, shared, dtype), lengths)
    found = with_gradients(relu_networks, *tensors(lengths, networks, shared, dtype, "cuda"), lengths)
    for one, other in zip(found, wanted, strict=True):
        error = (one.detach().float().cpu() - other.float()).norm() / other.float().norm().clamp_min(1e-6)
        assert error < (1e-4 if dtype == torch.float32 else 0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_takes_its_own_form(monkeypatch):
    def none(*arguments):
        raise AssertionError

    monkeypatch.setattr(plain, "relu_networks", none)
    inputs, weights, biases = tensors([30, 20], 2, True, torch.bfloat16, "cuda")
    [out, _] = relu_networks(inputs, weights, biases, [30, 20], Dropout(0.0))
    assert out.isfinite().all()
    assert F.relu(out).equal(out)
