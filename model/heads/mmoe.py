"""A mixture of shared experts for each (domain, task)."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from ...data.settings_base import Share, Strict
from ..layers.axes import Axis
from ..layers.forms import EVERY, Columns, as_autocast
from .experts import ExpertGates, Experts, ExpertWidths, SharedExperts, Towers, TowerWidths


class MMoE(Strict):
    """E shared experts; each (domain, task) mixes them by a gate of its own (Ma et al., 2018)."""

    head: Literal["mmoe"] = "mmoe"
    experts: SharedExperts = 4
    widths: ExpertWidths = (128, 64)
    tower_widths: TowerWidths = (32,)
    dropout: Share = Field(default=0.1, description="inside experts and towers")

    def build(self, inputs: Axis, domains: Axis, tasks: Axis, learned: Columns = EVERY) -> nn.Module:
        """The module; arguments as in `heads`."""
        return MMoEHead(inputs, domains, tasks, self.experts, self.widths, self.tower_widths, self.dropout, learned)


class MMoEHead(nn.Module):
    """Multi-gate mixture of experts (Ma et al., 2018): shared experts, a gate and a tower per (domain, task)."""

    def __init__(
        self,
        inputs: Axis,
        domains: Axis,
        tasks: Axis,
        experts: int,
        widths: Sequence[int],
        tower_widths: Sequence[int],
        dropout: float,
        learned: Columns = EVERY,
    ):
        super().__init__()
        self.experts = Experts(experts, inputs, widths, dropout, learned)
        self.gates = ExpertGates(domains, tasks, experts, inputs)
        self.towers = Towers(domains, tasks, widths[-1], tower_widths, dropout)

    def forward(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        (z,) = as_autocast(z)  # once, for experts and gates
        return self.towers(self.gates(z, self.experts(z), domain_lengths), domain_lengths)
