"""Layers that are a shared one times the domain's own."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...data.settings_base import Positive, Share, Strict
from ..layers.axes import Axis, declare, declare_layers
from ..layers.domain_adaptive import he_uniform
from ..layers.domain_rows import to_rows
from ..layers.dropout import Dropout
from ..layers.forms import EVERY, Columns, grouped_linear
from .experts import Towers, TowerWidths


class STAR(Strict):
    """Each layer's weight is a shared one times the domain's own, its biases add up (Sheng et al., 2021)."""

    head: Literal["star"] = "star"
    widths: tuple[Positive, ...] = Field(default=(128, 64), min_length=1, description="layers")
    tower_widths: TowerWidths = (32,)
    dropout: Share = Field(default=0.1, description="inside the layers and towers")

    def build(self, inputs: Axis, domains: Axis, tasks: Axis, learned: Columns = EVERY) -> nn.Module:
        """The module; arguments as in `heads`."""
        return STARHead(inputs, domains, tasks, self.widths, self.tower_widths, self.dropout)


class STARHead(nn.Module):
    """Star topology (Sheng et al., 2021): a layer's weight is a shared one times the domain's own, its biases add up.

    Simplified: partitioned batch normalisation is a LayerNorm with a scale and a shift per domain, which needs no
    statistics of the batch, and the auxiliary network is left out, because z has the domain embedding in it.
    """

    def __init__(
        self,
        inputs: Axis,
        domains: Axis,
        tasks: Axis,
        widths: Sequence[int],
        tower_widths: Sequence[int],
        dropout: float,
    ):
        super().__init__()
        self.tasks = tasks.size
        self.dropout = Dropout(dropout)
        sizes = (inputs.size, *widths)
        self.scale = nn.Parameter(torch.ones(domains.size, inputs.size))
        self.shift = nn.Parameter(torch.zeros(domains.size, inputs.size))
        self.shared_weights = nn.ParameterList(he_uniform(o, i) for i, o in zip(sizes, widths, strict=False))
        self.shared_biases = nn.ParameterList(torch.zeros(o) for o in widths)
        self.domain_weights = nn.ParameterList(
            torch.ones(domains.size, o, i) for i, o in zip(sizes, widths, strict=False)
        )
        self.domain_biases = nn.ParameterList(torch.zeros(domains.size, o) for o in widths)
        declare(self, {"scale": (domains, inputs), "shift": (domains, inputs)})
        declare_layers(self.shared_weights, "out", "in", inputs=inputs)
        declare_layers(self.shared_biases, "out")
        declare_layers(self.domain_weights, domains, "out", "in", inputs=inputs)
        declare_layers(self.domain_biases, domains, "out")
        self.towers = Towers(domains, tasks, widths[-1], tower_widths, dropout)

    def forward(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        scale, shift = (to_rows(of_domains, domain_lengths) for of_domains in (self.scale, self.shift))
        x = F.layer_norm(z, z.shape[1:]) * scale + shift
        layers = zip(self.shared_weights, self.domain_weights, self.shared_biases, self.domain_biases, strict=True)
        for shared, own, shared_bias, own_bias in layers:
            x = grouped_linear(x, shared * own, shared_bias + own_bias, domain_lengths)
            x = self.dropout(F.relu(x))
        return self.towers([x] * self.tasks, domain_lengths)
