"""Stochastic gradient descent, with momentum if asked for (Polyak, 1964)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field

from ...data.settings_base import Share, Strict


class SGD(Strict):
    """Stochastic gradient descent, with momentum if asked for (Polyak, 1964)."""

    kind: Literal["sgd"] = "sgd"
    momentum: Share = Field(default=0.0, description="share of the last update that is part of the next")

    @property
    def moments(self) -> int:
        """Numbers that it keeps per parameter."""
        return int(self.momentum > 0)

    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer of parameter groups; their rates are set before each step."""
        return torch.optim.SGD(list(groups), momentum=self.momentum, fused=True)
