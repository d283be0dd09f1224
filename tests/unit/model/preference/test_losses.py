"""Losses over groups: what slow loops over candidates say, and what they are for."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from foundrank.model.preference.losses import advantages, dpo, grpo, softmax_dpo

BETA, CLIP, EARLY, KL = 0.7, 0.2, 0.1, 0.3
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "dpo": partial(dpo, beta=BETA),
    "softmax_dpo": partial(softmax_dpo, beta=BETA),
    "grpo": partial(grpo, clip=CLIP, early_clip=EARLY, kl=KL),
}


def groups(rows: int = 6, size: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    scores, reference = (2 * torch.randn(rows, size, generator=g) for _ in range(2))
    rewards = torch.randint(0, 3, (rows, size), generator=g).float()
    there = torch.rand(rows, size, generator=g) < 0.8
    there[0], there[1], rewards[2] = False, torch.arange(size) == 2, 1.0  # none, one, all alike
    return scores, reference, rewards, there


def slow(name: str, scores: list[float], reference: list[float], rewards: list[float]) -> float:
    """The loss of one row, of the candidates that are there."""
    n = len(scores)
    if name == "grpo":
        mean = sum(rewards) / max(n, 1)
        spread = math.sqrt(sum((r - mean) ** 2 for r in rewards) / max(n, 1))
        if spread < 1e-9:
            return 0.0
        p, q = ([math.exp(s) / sum(map(math.exp, of)) for s in of] for of in (scores, reference))
        gained = 0.0
        for own, other, r in zip(p, q, rewards, strict=True):
            advantage, ratio = (r - mean) / spread, own / max(own / (1 + CLIP + EARLY), other)
            gained += min(ratio * advantage, min(max(ratio, 1 - CLIP), 1 + CLIP) * advantage)
        return KL * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) - gained / n
    gain = [BETA * (s - r) for s, r in zip(scores, reference, strict=True)]
    if name == "dpo":
        pairs = [(i, j) for i in range(n) for j in range(n) if rewards[i] > rewards[j]]
        return sum(math.log1p(math.exp(gain[j] - gain[i])) for i, j in pairs) / max(len(pairs), 1)
    best = [i for i in range(n) if rewards[i] == max(rewards)]
    worse = [j for j in range(n) if rewards[j] < max(rewards, default=0)]
    if not worse:
        return 0.0
    return sum(math.log(1 + sum(math.exp(gain[j] - gain[i]) for j in worse)) for i in best) / len(best)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_what_loops_say(name):
    scores, reference, rewards, there = groups()
    found = LOSSES[name](scores, reference, rewards, there)
    wanted = [
        slow(name, s[t].tolist(), r[t].tolist(), w[t].tolist())
        for s, r, w, t in zip(scores, reference, rewards, there, strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_looks_at_differences_within_a_row_alone(name):
    scores, reference, rewards, there = groups()
    of_row = torch.arange(6.0)[:, None]
    moved = LOSSES[name](scores + of_row, reference - 3 * of_row, rewards, there)
    torch.testing.assert_close(moved, LOSSES[name](scores, reference, rewards, there), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_not_there_says_nothing_and_gradients_are_finite(name):
    scores, reference, rewards, there = groups()
    scores.requires_grad_()
    LOSSES[name](scores, reference, rewards, there).sum().backward()
    gradient = scores.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert (gradient[~there] == 0).all()
    assert (gradient[:3] == 0).all()  # no candidate, one, and no difference
    assert (gradient[3:][there[3:]] != 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_from_the_reference_a_step_goes_to_the_better_candidates(name):
    _, reference, rewards, there = groups()
    scores = reference.clone().requires_grad_()
    LOSSES[name](scores, reference, rewards, there).sum().backward()
    gradient = scores.grad
    assert gradient is not None
    for row in range(3, 6):
        of_row = rewards[row].masked_fill(~there[row], 1.0)
        assert gradient[row][there[row] & (rewards[row] == of_row.max())].sum() < 0


def test_a_ratio_of_a_worse_candidate_is_bounded_and_still_learnt_from():
    reference, rewards, there = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2, dtype=torch.bool)
    worse = torch.tensor([[0.0, 6.0]], requires_grad=True)  # it has become likely
    loss = grpo(worse, reference, rewards, there, CLIP, EARLY, 0.0)
    # The better one is at its floor, min(0.005, 0.8) x 1; the worse at 1.3 x -1, not at 2 x -1.
    p = torch.softmax(worse.detach(), 1)[0, 0].item()
    assert loss.item() == pytest.approx(-(2 * p - 1.3) / 2, abs=1e-5)
    loss.sum().backward()
    assert worse.grad is not None
    assert worse.grad[0, 1] > 0


def test_a_better_candidate_that_is_far_enough_ahead_is_not_pushed_further():
    reference, rewards, there = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2, dtype=torch.bool)
    ahead = torch.tensor([[6.0, 0.0]], requires_grad=True)
    grpo(ahead, reference, rewards, there, CLIP, EARLY, 0.0).sum().backward()
    assert ahead.grad is not None
    assert ahead.grad.abs().max() == 0


def test_advantages_have_no_mean_and_one_deviation():
    _, _, rewards, there = groups()
    found = advantages(1e6 + 1e3 * rewards, there)
    for row in range(3, 6):
        mine = found[row][there[row]]
        assert mine.mean().item() == pytest.approx(0, abs=1e-3)
        assert mine.square().mean().item() == pytest.approx(1, abs=1e-3)
    assert (found[:3] == 0).all()
    assert (found[~there] == 0).all()
