"""What a step learns from the groups of a batch, beside the next items."""

import torch
from torch import Tensor, nn

from ...data.config.sections.next_item import NextItemConfig
from ...data.groups.groups import Groups
from .losses import dpo, grpo, softmax_dpo

_NLL_OF_MANY = 0.1  # where each past item is a target, too, and the sum of their losses many times a row's
_OF_PAIRS = {"dpo": dpo, "softmax_dpo": softmax_dpo}


class Preference(nn.Module):
    """The loss of groups, added to that of the next items.

    Args:
        config: the experiment's ``model.next_item``, with ``preference``.
        batch_size: nominal rows per rank and step; the loss is a sum over rows divided by it.
    """

    def __init__(self, config: NextItemConfig, batch_size: int):
        super().__init__()
        assert config.preference is not None
        self.config, self.weight, self.batch_size = config.preference, config.weight, batch_size
        usual = _NLL_OF_MANY if config.positions == "all" else 1.0
        self.nll = usual if self.config.nll is None else self.config.nll

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
        return self.nll * next_item + self.weight * losses.sum() / self.batch_size
