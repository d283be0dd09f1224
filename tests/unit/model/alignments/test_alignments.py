import math

import pytest
import torch

from foundrank.model.alignments import ALIGNMENTS
from foundrank.model.alignments.js import js_divergence
from foundrank.model.alignments.mmd import MMD_ROWS, mmd

PENALTIES = [js_divergence, mmd]


@pytest.mark.parametrize("penalty", PENALTIES)
def test_equal_samples_cost_nothing(penalty):
    rows = torch.randn(30, 8)
    assert abs(penalty(torch.cat([rows, rows, rows]), [30, 30, 30])) < 1e-6


@pytest.mark.parametrize("penalty", PENALTIES)
def test_different_samples_cost_more_the_further_apart_they_are(penalty):
    torch.manual_seed(0)
    rows, shift = torch.randn(90, 8), torch.randn(3, 8).repeat_interleave(30, 0)
    near, far = (penalty(rows + by * shift, [30, 30, 30]).item() for by in (0.5, 3.0))
    assert 0 < near < far


def test_js_reaches_its_bound_for_disjoint_distributions():
    z = 50 * torch.eye(4).repeat_interleave(3, 0)
    torch.testing.assert_close(js_divergence(z, [3, 3, 3, 3]).item(), math.log(4), rtol=1e-5, atol=0)


def test_js_by_hand():
    z = torch.randn(5, 6)
    p, q = z[:2].softmax(1).mean(0), z[2:].softmax(1).mean(0)
    m = (p + q) / 2
    by_hand = ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2
    torch.testing.assert_close(js_divergence(z, [2, 0, 3]), by_hand)


def test_mmd_by_hand():
    z = torch.randn(7, 4)
    distances = torch.cdist(z, z).square()
    scales = torch.tensor([0.25, 0.5, 1, 2, 4])[:, None, None]
    kernel = torch.exp(-distances / (scales * distances.mean())).mean(0)
    by_hand = kernel[:3, :3].mean() + kernel[3:, 3:].mean() - 2 * kernel[:3, 3:].mean()
    torch.testing.assert_close(mmd(z, [3, 4]), by_hand)


def test_mmd_uses_a_bounded_evenly_spaced_sample():
    z = torch.randn(400, 4, requires_grad=True)
    mmd(z, [300, 100]).backward()
    assert z.grad is not None
    used = z.grad.ne(0).any(1)
    assert used[:300].sum() <= MMD_ROWS
    assert used[:300].nonzero().diff(dim=0).unique().numel() == 1


@pytest.mark.parametrize("kind", ["js", "mmd", "none"])
@pytest.mark.parametrize("lengths", [[], [0, 0], [9, 0], [8, 1]])
def test_fewer_than_two_domains_cost_nothing(kind, lengths):
    z = torch.randn(sum(lengths), 4)
    assert ALIGNMENTS[kind]().penalty(z, lengths).item() == 0


@pytest.mark.parametrize("penalty", PENALTIES)
def test_gradient_is_finite_where_softmax_underflows_and_rows_coincide(penalty):
    z = torch.tensor([[300.0, 0], [300, 0], [0, 300], [0, 300]], requires_grad=True)
    penalty(z, [2, 2]).backward()
    same = torch.ones(4, 2, requires_grad=True)
    penalty(same, [2, 2]).backward()
    assert z.grad is not None
    assert same.grad is not None
    assert z.grad.isfinite().all()
    assert same.grad.isfinite().all()
