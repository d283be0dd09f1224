"""Adam (Kingma and Ba, 2015), without weight decay."""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from ...data.settings_base import Strict


class Adam(Strict):
    """Adam (Kingma and Ba, 2015), without weight decay."""

    kind: Literal["adam"] = "adam"

    @property
    def moments(self) -> int:
        """Numbers that it keeps per parameter."""
        return 2

    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer of parameter groups; their rates are set before each step."""
        return torch.optim.Adam(list(groups), fused=True)
