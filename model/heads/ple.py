"""Shared experts, and one that each domain has for itself."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from ...data.settings_base import Share, Strict
from ..layers.axes import Axis
from ..layers.forms import EVERY, Columns, as_autocast
from .experts import DomainExpert, ExpertGates, Experts, ExpertWidths, SharedExperts, Towers, TowerWidths


class PLE(Strict):
    """As mmoe, and each domain has an expert that only its rows see (Tang et al., 2020)."""

    head: Literal["ple"] = "ple"
    experts: SharedExperts = 4
    widths: ExpertWidths = (128, 64)
    tower_widths: TowerWidths = (32,)
    dropout: Share = Field(default=0.1, description="inside experts and towers")

    def build(self, inputs: Axis, domains: Axis, tasks: Axis, learned: Columns = EVERY) -> nn.Module:
        """The module; arguments as in `heads`."""
        return PLEHead(inputs, domains, tasks, self.experts, self.widths, self.tower_widths, self.dropout, learned)


class PLEHead(nn.Module):
    """Progressive layered extraction (Tang et al., 2020) with one level, the groups being the domains.

    A (domain, task) gate mixes the shared experts and the one expert only its domain has.
    """

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
        self.domain_expert = DomainExpert(domains, inputs, widths, dropout)
        self.gates = ExpertGates(domains, tasks, experts + 1, inputs)
        self.towers = Towers(domains, tasks, widths[-1], tower_widths, dropout)

    def forward(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        (z,) = as_autocast(z)  # once, for experts and gates
        own = self.domain_expert(z, domain_lengths)
        return self.towers(self.gates(z, [*self.experts(z), own], domain_lengths), domain_lengths)
