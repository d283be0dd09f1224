"""What a step learns from the groups of a batch, beside the next items."""

import torch
from torch import Tensor, nn

from ...data.config.sections.next_item import PreferenceConfig
from ...data.groups.groups import Groups
from .losses import dpo, grpo, softmax_dpo

_OF_PAIRS = {"dpo": dpo, "softmax_dpo": softmax_dpo}


class Preference(nn.Module):
    """The loss of groups, added to that of the next items.

    Args:
        config: the experiment's ``model.next_item.preference``.
        weight: ``model.next_item.weight``.
        batch_size: nominal rows per rank and step; the loss is a sum over rows divided by it.
    """

    def __init__(self, config: PreferenceConfig, weight: float, batch_size: int):
        super().__init__()
        self.config, self.weight, self.batch_size = config, weight, batch_size

    def forward(self, next_item: Tensor, scores: Tensor, there: Tensor, groups: Groups) -> Tensor:
        """A float32 scalar.

        Args:
            next_item: the weighted loss of the next items.
            scores: ``[B, G]`` float32 log-probabilities of the candidates, up to a constant of the row.
            there: ``[B, G]`` bool, which of them the batch can score.
            groups: of B rows.
        """
        config, there = self.config, there & groups.there
        parts = (scores, groups.reference, groups.rewards, there)
        with torch.autocast(scores.device.type, enabled=False):
            if config.loss == "grpo":
                losses = grpo(*parts, config.clip, config.early_clip, config.kl)
            else:
                losses = _OF_PAIRS[config.loss](*parts, config.beta)
        return config.nll * next_item + self.weight * losses.sum() / self.batch_size
