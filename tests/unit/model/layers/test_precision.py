import pytest
import torch

from foundrank.model.layers import precision
from foundrank.model.layers.dropout import Dropout
from foundrank.model.layers.forms import relu_networks
from foundrank.model.layers.precision import chosen_precision, fuses, has_bf16

CPU = torch.device("cpu")


@pytest.fixture
def capabilities(monkeypatch):
    """What the CPU is said to have."""
    found = {}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    has_bf16.cache_clear()
    yield found
    has_bf16.cache_clear()


@pytest.mark.parametrize(("has", "chosen"), [("amx_bf16", "bf16"), ("avx512_bf16", "bf16"), ("avx2", "fp32")])
def test_auto_is_the_faster_one(capabilities, has, chosen):
    capabilities[has] = True
    assert chosen_precision("auto", CPU) == chosen
    assert [chosen_precision(asked, CPU) for asked in ("fp32", "bf16")] == ["fp32", "bf16"]


def test_auto_is_bf16_on_gpus(capabilities):
    assert chosen_precision("auto", torch.device("cuda")) == "bf16"


def test_bf16_without_its_instructions_multiplies_without_fusing(monkeypatch):
    """oneDNN refuses bfloat16 there."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=generator) for shape in ((5, 3), (1, 1, 4, 3), (1, 1, 4)))
    expected = torch.relu(x @ weight[0, 0].T + bias[0, 0])
    monkeypatch.setattr(precision.torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    halves = [tensor.bfloat16() for tensor in (x, weight, bias)]
    assert not fuses(halves[0])
    (out,) = relu_networks(halves[:1], halves[1:2], halves[2:], [5], Dropout(0.0))
    torch.testing.assert_close(out.float(), expected, atol=0.05, rtol=0.05)
