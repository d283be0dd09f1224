import pytest
import torch
from torch import nn

from foundrank.model.gates import GATES
from foundrank.model.gates.domain_count_gate import DomainCountAttention
from foundrank.model.gates.domain_gate import DomainAttention
from foundrank.model.layers.axes import named

KINDS = [kind for kind in GATES if kind != "none"]
ASPECTS = named("aspect", ["id", "text", "sparse"])
COUNTS = torch.tensor([0.0, 1.0, 10.0, 1000.0])
PRESENT = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)


def made(kind: str) -> nn.Module:
    return GATES[kind]().build(8, ASPECTS)  # type: ignore[attr-defined]


@pytest.fixture
def aspects() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(4, 3, 8, requires_grad=True)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_a_distribution_over_present_aspects(kind, aspects):
    gate = made(kind)
    fused, weights = gate(aspects, PRESENT, torch.randn(4, 8), COUNTS)
    torch.testing.assert_close(weights.sum(1), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert weights[~PRESENT].eq(0).all()
    assert weights[PRESENT].gt(0).all()
    torch.testing.assert_close(fused, torch.einsum("ba,bad->bd", weights, aspects))
    assert fused[3].eq(0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_missing_aspects_get_no_gradient_and_make_no_nan(kind, aspects):
    gate = made(kind)
    fused, _ = gate(aspects, PRESENT, torch.randn(4, 8), COUNTS)
    fused.square().sum().backward()
    assert aspects.grad is not None
    assert aspects.grad[~PRESENT].eq(0).all()
    assert aspects.grad[PRESENT].ne(0).any()
    for parameter in gate.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_with_nothing_present_has_finite_gradients(kind, aspects):
    gate = made(kind)
    fused, _ = gate(aspects, torch.zeros(4, 3, dtype=torch.bool), torch.randn(4, 8), COUNTS)
    fused.sum().backward()
    assert aspects.grad is not None
    assert all(g is not None and g.eq(0).all() for g in [aspects.grad, *(p.grad for p in gate.parameters())])


@pytest.mark.parametrize(
    ("kind", "depends"),
    [("mean", False), ("mean_gate", False), ("cls_gate", False), ("domain_gate", True), ("domain_count_gate", True)],
)
def test_only_domain_gates_see_the_domain(kind, depends, aspects):
    gate = made(kind)
    _, one = gate(aspects, PRESENT, torch.ones(4, 8), COUNTS)
    _, other = gate(aspects, PRESENT, -torch.ones(4, 8), COUNTS)
    assert (not torch.equal(one, other)) == depends


def test_domain_gate_is_the_formula(aspects):
    gate = DomainAttention(8, ASPECTS)
    torch.nn.init.normal_(gate.bias)
    domains = torch.randn(4, 8)
    _, weights = gate(aspects, torch.ones(4, 3, dtype=torch.bool), domains, COUNTS)
    for b in range(4):
        scores = torch.stack([domains[b] @ gate.key.weight @ aspects[b, a] / 8**0.5 for a in range(3)]) + gate.bias
        torch.testing.assert_close(weights[b], scores.softmax(0))


def test_the_count_gate_is_the_domain_gate_and_more(aspects):
    gate, plain = DomainCountAttention(8, ASPECTS), DomainAttention(8, ASPECTS)
    plain.load_state_dict(gate.state_dict(), strict=False)
    domains, every = torch.randn(4, 8), torch.ones(4, 3, dtype=torch.bool)
    _, before = plain(aspects, every, domains, COUNTS)
    torch.testing.assert_close(gate(aspects, every, domains, COUNTS)[1], before)
    torch.nn.init.constant_(gate.count_weight[:1].detach(), 1.0)  # the first aspect gains by what is known of the id
    _, after = gate(aspects, every, domains, COUNTS)
    wanted = before * torch.stack([1 + COUNTS, torch.ones(4), torch.ones(4)], 1)
    torch.testing.assert_close(after, wanted / wanted.sum(1, keepdim=True))
