import pytest
import torch

from foundrank.model.layers.grouped import grouped_linear

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
    with pytest.raises(ValueError, match=r"argument 2 is (longer|shorter)"):
        grouped_linear(torch.randn(4, 4), weight, bias, [2, 2])
    with pytest.raises(RuntimeError):
        grouped_linear(torch.randn(4, 4), weight, bias, [2, 1, 0])
