"""The layers, in their plain form and in that for CPUs."""

import pytest
import torch

from foundrank.data.errors import UserError
from foundrank.model.heads.experts import ExpertGates, Experts, Towers
from foundrank.model.layers import on_cpu
from foundrank.model.layers.axes import Axis
from foundrank.model.layers.dropout import Dropout
from foundrank.model.layers.fast import SWITCH, fast_on_cpu, fast_tables
from foundrank.model.layers.forms import grouped_linear


@pytest.fixture(params=["", "cpu"], autouse=True)
def switch(request, monkeypatch):
    monkeypatch.setenv(SWITCH, request.param)


LENGTHS = [[3, 2, 4], [0, 5, 0], [0, 0, 0], [1, 0, 6]]


def _tensors(rows, dtype=torch.float32):
    shapes = ((rows, 4), (3, 5, 4), (3, 5))
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_grouped_linear_is_a_loop_over_rows(lengths):
    x, weight, bias = _tensors(sum(lengths))
    out = grouped_linear(x, weight, bias, lengths)
    domains = torch.arange(3).repeat_interleave(torch.tensor(lengths))
    rows = [weight[d] @ row + bias[d] for row, d in zip(x, domains, strict=True)]
    torch.testing.assert_close(out, torch.stack(rows) if rows else torch.zeros(0, 5))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_its_gradients_are_right(lengths):
    tensors = _tensors(sum(lengths), torch.float64)
    if sum(lengths):
        assert torch.autograd.gradcheck(lambda *t: grouped_linear(*t, lengths), tensors)
        return
    gradients = torch.autograd.grad(grouped_linear(*tensors, lengths).sum(), tensors)
    assert [g.shape for g in gradients] == [t.shape for t in tensors]
    assert not any(g.any() for g in gradients)


@pytest.mark.parametrize("constant", [0, 1, 2])
def test_what_is_constant_gets_no_gradient_and_changes_no_other(constant):
    lengths = [3, 0, 4]
    tensors = _tensors(7)
    wanted = torch.autograd.grad(grouped_linear(*tensors, lengths).square().sum(), tensors)
    tensors[constant].requires_grad_(False)
    learned = [t for t in tensors if t.requires_grad]
    found = torch.autograd.grad(grouped_linear(*tensors, lengths).square().sum(), learned)
    torch.testing.assert_close(found, tuple(g for n, g in enumerate(wanted) if n != constant))


def test_lengths_that_do_not_match_are_refused():
    weight, bias = torch.randn(3, 5, 4), torch.randn(3, 5)
    with pytest.raises(ValueError, match=r"argument \d is (longer|shorter)"):
        grouped_linear(torch.randn(4, 4), weight, bias, [2, 2])
    with pytest.raises(RuntimeError):
        grouped_linear(torch.randn(4, 4), weight, bias, [2, 1, 0])


class Head(torch.nn.Module):
    def __init__(self, domains, dropout):
        super().__init__()
        of_domains, tasks = Axis("domain", domains), Axis("task", 2)
        self.experts = Experts(3, Axis("in", 6), (8, 5), dropout)
        self.gates = ExpertGates(of_domains, tasks, 3, Axis("in", 6))
        self.towers = Towers(of_domains, tasks, 5, (4,), dropout)

    def forward(self, z, lengths):
        return self.towers(self.gates(z, self.experts(z), lengths), lengths)


@pytest.mark.parametrize("lengths", [[3, 0, 4], [7], [0, 0]])
def test_the_switch_takes_all_layers_back_to_their_plain_form(lengths, monkeypatch):
    torch.manual_seed(0)
    head, z = Head(len(lengths), 0.0), torch.randn(sum(lengths), 6, requires_grad=True)
    found = {}
    for asked in ("", "cpu", "all"):
        monkeypatch.setenv(SWITCH, asked)
        if asked:
            for name in ("grouped_linear", "relu_networks", "mixtures"):
                monkeypatch.delattr(on_cpu, name, raising=False)
        logits = head(z, lengths)
        found[asked] = [logits, *torch.autograd.grad(logits.square().sum(), [z, *head.parameters()])]
    torch.testing.assert_close(found["cpu"], found[""], rtol=1e-4, atol=1e-6)
    assert all(torch.equal(one, other) for one, other in zip(found["cpu"], found["all"], strict=True))


def test_dropout_drops_its_share():
    dropped = Dropout(0.25)(torch.ones(40_000))
    assert dropped.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert (dropped == 0).float().mean() == pytest.approx(0.25, abs=0.01)


def test_the_switch_names_parts(monkeypatch):
    for asked, layers, tables in (("", True, True), ("tables, gpu", True, False), ("all", False, False)):
        monkeypatch.setenv(SWITCH, asked)
        assert (fast_on_cpu(torch.zeros(1)), fast_tables()) == (layers, tables)
    monkeypatch.setenv(SWITCH, "cpu,disk")
    with pytest.raises(UserError, match="FOUNDRANK_PLAIN: names 'disk'"):
        fast_tables()
