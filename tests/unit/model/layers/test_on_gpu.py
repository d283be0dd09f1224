"""One product for all networks and domains gives what a product for each does."""

import pytest
import torch
import torch.nn.functional as F

from foundrank.model.layers import fast, forms, on_cpu, on_gpu, plain
from foundrank.model.layers.domain_rows import domain_rows
from foundrank.model.layers.dropout import Dropout
from foundrank.model.layers.forms import relu_networks

CASES = [  # domains' rows, networks, whether they see the same
    (None, 3, True),
    (None, 2, False),
    ([50], 3, True),
    ([50], 2, False),
    ([10, 0, 25, 15], 3, True),
    ([10, 0, 25, 15], 2, False),
    ([0, 0, 50], 1, True),
    ([0, 0], 2, True),
    ([0, 0], 2, False),
]
DTYPES = [torch.float32, torch.bfloat16]
CPU = torch.device("cpu")


@pytest.fixture
def as_on_gpu(monkeypatch):
    monkeypatch.setattr(fast, "kind_of", lambda x: "cuda")


def tensors(lengths, networks, shared, dtype, device="cpu"):
    """Inputs, weights and biases of two layers."""
    generator = torch.Generator().manual_seed(0)

    def some(*shape):
        return torch.randn(*shape, generator=generator).to(device, dtype).requires_grad_()

    rows, domains = (50, ()) if lengths is None else (sum(lengths), (len(lengths),))
    inputs = [some(rows, 16) for _ in range(1 if shared else networks)]
    weights = [some(*domains, networks, out, size) for out, size in ((24, 16), (8, 24))]
    return inputs, weights, [some(*domains, networks, out) for out in (24, 8)]


def with_gradients(inputs, weights, biases, lengths):
    outputs = relu_networks(inputs, weights, biases, lengths, Dropout(0.0))
    total = sum((output.float() * (at + 1)).sum() for at, output in enumerate(outputs))
    return [*outputs, *torch.autograd.grad(total, [*inputs, *weights, *biases])]


def near(found, wanted, dtype):
    """Up to rounding; in bfloat16, where units near 0 fall on either side, of the whole."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        error = (one.detach().float().cpu() - other.detach().float()).norm() / other.float().norm().clamp_min(1e-6)
        assert error < (1e-5 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("wide", [0, 8192])  # of 0 columns domains have products of their own rows
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("lengths", "networks", "shared"), CASES)
def test_networks_side_by_side(lengths, networks, shared, dtype, wide, monkeypatch):
    monkeypatch.setenv("FOUNDRANK_PLAIN", "cpu")
    wanted = with_gradients(*tensors(lengths, networks, shared, dtype), lengths)
    monkeypatch.setattr(fast, "kind_of", lambda x: "cuda")
    monkeypatch.setattr(on_gpu, "_WIDE", wide)
    monkeypatch.setattr(on_gpu, "_grouped", lambda *_: True)
    monkeypatch.setattr(plain, "relu_networks", None)
    near(with_gradients(*tensors(lengths, networks, shared, dtype), lengths), wanted, dtype)


@pytest.mark.parametrize("lengths", [[10, 0, 25, 15], [0, 0, 0, 0]])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_per_domain(lengths, dtype, as_on_gpu):
    (x,), (weight, _), (bias, _) = tensors(lengths, 1, True, dtype)
    every = [x, weight, bias]
    wanted = plain.grouped_linear(x, weight[:, 0], bias[:, 0], lengths)
    found = forms.grouped_linear(x, weight[:, 0], bias[:, 0], lengths)
    near([found], [wanted], dtype)
    near(torch.autograd.grad(found.sum(), every), torch.autograd.grad(wanted.sum(), every), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mixtures(dtype, as_on_gpu):
    scores, experts = (
        torch.randn(5, 6, dtype=dtype).requires_grad_(),
        torch.randn(3, 5, 4, dtype=dtype).requires_grad_(),
    )
    found = forms.mixtures(scores, experts, 2)
    gates = scores.float().T.reshape(2, 3, -1).softmax(1).to(dtype)
    wanted = torch.stack(plain.mixtures(gates, experts.unbind()))
    near([found], [wanted], dtype)
    upstream = torch.randn(2, 5, 4, dtype=dtype)
    every = [scores, experts]
    near(torch.autograd.grad(found, every, upstream), torch.autograd.grad(wanted, every, upstream), dtype)
    near([found], [torch.stack(on_cpu.mixtures(gates, [*experts.unbind()]))], dtype)


@pytest.mark.parametrize("lengths", [[2, 0, 3], [0, 0, 0]])
@pytest.mark.parametrize("dtype", DTYPES)
def test_logits(lengths, dtype):
    xs = torch.randn(2, sum(lengths), 4, dtype=dtype).requires_grad_()
    every = [xs, torch.randn(3, 2, 4).requires_grad_(), torch.randn(3, 2).requires_grad_()]
    wanted = forms.tower_logits([*xs.unbind()], *every[1:], lengths)
    found = on_gpu.tower_logits(*every, domain_rows(lengths, CPU))
    near([found], [wanted], torch.float32)
    upstream = torch.randn_like(wanted)
    near(torch.autograd.grad(found, every, upstream), torch.autograd.grad(wanted, every, upstream), dtype)


def test_what_is_frozen_gets_no_gradient_and_changes_no_other(as_on_gpu):
    for networks, shared in ((3, True), (2, False)):
        inputs, weights, biases = tensors([10, 0, 25, 15], networks, shared, torch.float32)
        wanted = torch.autograd.grad(
            torch.stack([*relu_networks(inputs, weights, biases, [10, 0, 25, 15], Dropout(0.0))]).sum(), weights[1]
        )
        for frozen in (*inputs, weights[0], *biases):
            frozen.requires_grad_(False)
        found = torch.stack([*relu_networks(inputs, weights, biases, [10, 0, 25, 15], Dropout(0.0))])
        near(torch.autograd.grad(found.sum(), weights[1]), wanted, torch.float32)


def test_what_is_too_wide_has_no_form_for_gpus():
    x = torch.zeros(3, 16)
    few, many = (domain_rows([3, *[0] * more], x.device) for more in (6, 69))
    assert on_gpu.fits(x, few, 16, 1024, 64)
    assert not on_gpu.fits(x, many, 16, 1024)
    assert on_gpu.fits(x, None, 16, 20000)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("lengths", "networks", "shared"), CASES)
def test_networks_on_a_gpu(lengths, networks, shared, dtype, monkeypatch):
    found = with_gradients(*tensors(lengths, networks, shared, dtype, "cuda"), lengths)
    monkeypatch.setenv("FOUNDRANK_PLAIN", "all")
    wanted = with_gradients(*tensors(lengths, networks, shared, dtype), lengths)
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
