"""One network for all, and a tower for each (domain, task)."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from ...data.settings_base import Positive, Share, Strict
from ..layers.axes import Axis
from ..layers.forms import EVERY, Columns
from .experts import Experts, Towers, TowerWidths


class SharedBottom(Strict):
    """One network for all, and a tower for each (domain, task) (Caruana, 1997)."""

    head: Literal["shared_bottom"] = "shared_bottom"
    widths: tuple[Positive, ...] = Field(default=(128, 64), min_length=1, description="layers of the network")
    tower_widths: TowerWidths = (32,)
    dropout: Share = Field(default=0.1, description="inside the network and towers")

    def build(self, inputs: Axis, domains: Axis, tasks: Axis, learned: Columns = EVERY) -> nn.Module:
        """The module; arguments as in `heads`."""
        return SharedBottomHead(inputs, domains, tasks, self.widths, self.tower_widths, self.dropout, learned)


class SharedBottomHead(nn.Module):
    """Hard sharing (Caruana, 1997): one network for all, a tower per (domain, task)."""

    def __init__(
        self,
        inputs: Axis,
        domains: Axis,
        tasks: Axis,
        widths: Sequence[int],
        tower_widths: Sequence[int],
        dropout: float,
        learned: Columns = EVERY,
    ):
        super().__init__()
        self.tasks = tasks.size
        self.bottom = Experts(1, inputs, widths, dropout, learned)
        self.towers = Towers(domains, tasks, widths[-1], tower_widths, dropout)

    def forward(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        (h,) = self.bottom(z)
        return self.towers([h] * self.tasks, domain_lengths)
