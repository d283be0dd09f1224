"""Losses over groups of candidates, given rewards and the log-probabilities that a reference gave them.

All take log-probabilities up to a constant of the row, since they look at differences within a row alone, or at probabilities
normalised within the group. So they are the same for items found by vectors and by codes, and none needs a pass over the catalog.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_LOWEST = -1e9  # finite, so that what is masked has a gradient of zero, not of NaN
_LEAST_SPREAD = 1e-6  # of rewards in a group; below it they are equal


def dpo(scores: Tensor, reference: Tensor, rewards: Tensor, there: Tensor, beta: float) -> Tensor:
    """``[B]`` float32: the mean over each two candidates of different reward of -log sigmoid(beta x how much further the better one is
    ahead of the worse than it was); 0 for a row without such two.

    Source: Rafailov et al., "Direct Preference Optimization" (2023).

    Args:
        scores: ``[B, G]`` float32 log-probabilities.
        reference: ``[B, G]`` float32, those of the reference.
        rewards: ``[B, G]`` float32.
        there: ``[B, G]`` bool, which candidates there are.
        beta: from 0.
    """
    gained = beta * (scores - reference).masked_fill(~there, 0)
    better = (rewards[:, :, None] > rewards[:, None]) & there[:, :, None] & there[:, None]
    losses = F.softplus(gained[:, None] - gained[:, :, None]).masked_fill(~better, 0)
    return losses.sum((1, 2)) / better.sum((1, 2)).clamp_min(1)


def softmax_dpo(scores: Tensor, reference: Tensor, rewards: Tensor, there: Tensor, beta: float) -> Tensor:
    """``[B]`` float32: -log of the softmax of beta x what the best candidate has gained, among those that are worse and itself, the mean over
    all that are best; 0 for a row whose candidates are all alike. Arguments as of `dpo`.

    Source: Chen et al., "On Softmax Direct Preference Optimization for Recommendation" (2024).
    """
    gained = beta * (scores - reference)
    most = rewards.masked_fill(~there, float("-inf")).amax(1, keepdim=True)
    best, worse = there & (rewards == most), there & (rewards < most)
    among = gained.masked_fill(~worse, _LOWEST).logsumexp(1, keepdim=True)
    losses = F.softplus(among - gained).masked_fill(~best, 0)
    return torch.where(worse.any(1), losses.sum(1) / best.sum(1).clamp_min(1), 0)


def grpo(
    scores: Tensor,
    reference: Tensor,
    rewards: Tensor,
    there: Tensor,
    clip: float,
    early_clip: float,
    kl: float,
) -> Tensor:
    """``[B]`` float32: minus the mean over candidates of the clipped ratio of probabilities x advantage, and ``kl`` x the divergence from
    the reference; 0 for a row whose candidates are all alike.

    Probabilities are those within the group. An advantage is the reward less the group's mean, over its deviation. A ratio beyond
    1 + ``clip`` + ``early_clip`` is held to that before anything else, in value and not in its gradient's direction: one whose advantage is
    negative would otherwise be learnt from without any bound.

    Source: Shao et al., "DeepSeekMath" (2024); Zhou et al., "OneRec Technical Report" (2025), for the early clip.
    """
    log_p, log_q = ((of.masked_fill(~there, _LOWEST)).log_softmax(1) for of in (scores, reference))
    advantage = advantages(rewards, there)
    apart = (log_p - log_q).masked_fill(~there, 0)
    # The reference's probability is raised to what bounds the ratio, where that is needed; no gradient goes through it.
    ratio = (apart - (apart.detach() - math.log(1 + clip + early_clip)).clamp_min(0)).exp()
    gained = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    divergence = (log_p.exp() * apart).sum(1)
    differ = (advantage != 0).any(1)
    return torch.where(differ, kl * divergence - gained.sum(1) / there.sum(1).clamp_min(1), 0)


def advantages(rewards: Tensor, there: Tensor) -> Tensor:
    """``[B, G]``: rewards standardised within each group; zeros where all are equal, and where there is no candidate."""
    many = there.sum(1, keepdim=True).clamp_min(1)
    apart = (rewards - (rewards * there).sum(1, keepdim=True) / many).masked_fill(~there, 0)
    spread = (apart.square().sum(1, keepdim=True) / many).sqrt()
    return torch.where(spread > _LEAST_SPREAD * (1 + rewards.abs().amax(1, keepdim=True)), apart / spread, 0)
