"""Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field

from ...data.settings_base import Strict


class AdamW(Strict):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    kind: Literal["adamw"] = "adamw"
    weight_decay: float = Field(
        default=1e-2, ge=0, description="share of a parameter taken off per step, times the rate"
    )

    @property
    def moments(self) -> int:
        """Numbers that it keeps per parameter."""
        return 2

    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer of parameter groups; their rates are set before each step."""
        return torch.optim.AdamW(list(groups), weight_decay=self.weight_decay, fused=True)
