from typing import Any

import pytest
import torch
import torch.nn.functional as F

from foundrank.model.heads import HEADS
from foundrank.model.layers.axes import Axis
from foundrank.model.layers.dropout import Dropout

LENGTHS = [4, 0, 3]


@pytest.fixture
def z() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(7, 6)


def _made(kind: str, **changes) -> Any:
    settings = {"widths": (8, 5), "tower_widths": (4, 3), "dropout": 0.0} | changes
    settings |= {"experts": 3} if "experts" in HEADS[kind].model_fields else {}
    axes = Axis("in", 6), Axis("domain", 3), Axis("task", 2)
    return HEADS[kind].model_validate(settings).build(*axes)  # type: ignore[attr-defined]


def _head(kind: str, **changes) -> Any:
    head = _made(kind, **changes)
    for parameter in head.parameters():  # as after training: nothing equal across domains
        torch.nn.init.normal_(parameter, std=0.5)
    return head


def _tower(head, x: torch.Tensor, d: int, t: int) -> torch.Tensor:
    towers = head.towers
    for weight, bias in zip(towers.hidden_weights, towers.hidden_biases, strict=True):
        x = F.relu(weight[d, t] @ x + bias[d, t])
    return towers.weight[d, t] @ x + towers.bias[d, t]


def _feed_forward(row: torch.Tensor, layers) -> torch.Tensor:
    for weight, bias in layers:
        row = F.relu(weight @ row + bias)
    return row


def _check(head, z: torch.Tensor, mixed) -> None:
    """``mixed(row, domain, task)`` is what the tower of (domain, task) should see."""
    domains = [d for d, n in enumerate(LENGTHS) for _ in range(n)]
    expected = [[_tower(head, mixed(row, d, t), d, t) for t in range(2)] for row, d in zip(z, domains, strict=True)]
    torch.testing.assert_close(head(z, LENGTHS), torch.stack([torch.stack(row) for row in expected]))


def _mixture(head, row: torch.Tensor, outputs: list[torch.Tensor], d: int, t: int) -> torch.Tensor:
    gate = (head.gates.weight[d, t] @ row + head.gates.bias[d, t]).softmax(0)
    return sum((g * o for g, o in zip(gate, outputs, strict=True)), start=torch.zeros(5))


def _experts(head, row: torch.Tensor) -> list[torch.Tensor]:
    experts = head.experts
    return [
        _feed_forward(row, [(w[e], b[e]) for w, b in zip(experts.weights, experts.biases, strict=True)])
        for e in range(3)
    ]


def test_mmoe_is_a_loop_over_rows_experts_and_tasks(z):
    head = _head("mmoe")
    _check(head, z, lambda row, d, t: _mixture(head, row, _experts(head, row), d, t))


def test_ple_adds_the_expert_of_the_domain(z):
    head = _head("ple")

    def mixed(row, d, t):
        layers = [(w[d], b[d]) for w, b in zip(head.domain_expert.weights, head.domain_expert.biases, strict=True)]
        return _mixture(head, row, [*_experts(head, row), _feed_forward(row, layers)], d, t)

    _check(head, z, mixed)


def test_shared_bottom_gives_every_tower_the_same(z):
    head = _head("shared_bottom")
    layers = [(w[0], b[0]) for w, b in zip(head.bottom.weights, head.bottom.biases, strict=True)]
    _check(head, z, lambda row, d, t: _feed_forward(row, layers))


def test_star_multiplies_shared_and_domain_weights(z):
    head = _head("star")
    stacks = (head.shared_weights, head.domain_weights, head.shared_biases, head.domain_biases)

    def mixed(row, d, t):
        row = (row - row.mean()) / (row.var(correction=0) + 1e-5).sqrt() * head.scale[d] + head.shift[d]
        return _feed_forward(row, [(w * wd[d], b + bd[d]) for w, wd, b, bd in zip(*stacks, strict=True)])

    _check(head, z, mixed)


@pytest.mark.parametrize("kind", HEADS)
def test_a_label_teaches_only_its_own_domain_and_task(kind, z):
    head = _head(kind)
    head(z, LENGTHS)[:4, 1].sum().backward()  # domain 0, task 1
    per_domain: dict[str, Any] = {
        n: p.grad for n, p in head.named_parameters() if p.shape[0] == 3 and not n.startswith("experts.")
    }
    for name, gradient in per_domain.items():
        assert gradient is not None, name
        assert gradient[1:].eq(0).all(), name
        assert gradient[0].ne(0).any(), name
    for name in ("towers.hidden_weights.0", "towers.weight", "towers.bias"):
        assert per_domain[name][0, 0].eq(0).all()
        assert per_domain[name][0, 1].ne(0).any()
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize("kind", HEADS)
def test_domains_start_equal(kind, z):
    head = _made(kind)
    row = z[:1].expand(3, 6)
    logits = head(row, [1, 1, 1])
    torch.testing.assert_close(logits[0], logits[2])
    assert not torch.equal(logits[:, 0], logits[:, 1])


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("widths", [(5,), (8, 7, 5)])
def test_any_depth_and_no_rows(kind, widths):
    head = _head(kind, widths=widths)
    assert head(torch.randn(2, 6), [0, 2, 0]).shape == (2, 2)
    logits = head(torch.zeros(0, 6), [0, 0, 0])
    logits.sum().backward()
    assert logits.shape == (0, 2)
    assert all(p.grad is not None and p.grad.eq(0).all() for p in head.parameters())


def test_logits_stay_float32_under_autocast(z):
    head = _head("mmoe")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(z, LENGTHS)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, head(z, LENGTHS), rtol=0.1, atol=0.1)


def test_dropout_keeps_the_mean_and_drops_the_share():
    torch.manual_seed(0)
    dropout, x = Dropout(0.3), torch.ones(999, 1001, requires_grad=True)
    y = dropout(x)
    torch.testing.assert_close(y.eq(0).float().mean().item(), 0.3, rtol=0, atol=0.003)
    torch.testing.assert_close(y[y > 0], torch.full_like(y[y > 0], 1 / 0.7))
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())
    assert dropout.eval()(x) is x
    assert Dropout(0.0)(x) is x
