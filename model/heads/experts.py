"""Feed-forward blocks of the heads: stacked experts, experts of one domain, and (domain, task) gates and towers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ...data.settings_base import Positive
from ..layers.axes import Axis, at_level, declare, declare_layers
from ..layers.domain_adaptive import he_uniform, per_domain
from ..layers.dropout import Dropout
from ..layers.forms import EVERY, Columns, grouped_linear, mixtures, relu_networks, tower_logits

# Settings that several heads have.
SharedExperts = Annotated[Positive, Field(description="E: shared experts")]
ExpertWidths = Annotated[tuple[Positive, ...], Field(min_length=1, description="layers of each expert")]
TowerWidths = Annotated[
    tuple[Positive, ...], Field(min_length=1, description="hidden layers of each (domain, task) tower")
]


class Experts(nn.Module):
    """E feed-forward networks that see the same rows; ReLU and dropout after every layer.

    ``learned``: columns of what they see that depend on parameters.
    """

    def __init__(self, experts: int, inputs: Axis, widths: Sequence[int], dropout: float, learned: Columns = EVERY):
        super().__init__()
        self.learned = learned
        self.dropout = Dropout(dropout)
        sizes = (inputs.size, *widths)
        self.weights = nn.ParameterList(he_uniform(experts, o, i) for i, o in zip(sizes, widths, strict=False))
        self.biases = nn.ParameterList(torch.zeros(experts, o) for o in widths)
        declare_layers(self.weights, "expert", "out", "in", inputs=inputs)
        declare_layers(self.biases, "expert", "out")

    def forward(self, z: Tensor) -> Sequence[Tensor]:
        """``[B, I]`` -> each expert's ``[B, H]``."""
        return relu_networks([z], [*self.weights], [*self.biases], None, self.dropout, self.learned)


class DomainExpert(nn.Module):
    """One feed-forward network per domain, seen by that domain's rows only."""

    def __init__(self, domains: Axis, inputs: Axis, widths: Sequence[int], dropout: float):
        super().__init__()
        self.dropout = Dropout(dropout)
        sizes = (inputs.size, *widths)
        self.weights = nn.ParameterList(
            per_domain(domains.size, he_uniform(o, i)) for i, o in zip(sizes, widths, strict=False)
        )
        self.biases = nn.ParameterList(torch.zeros(domains.size, o) for o in widths)
        declare_layers(self.weights, domains, "out", "in", inputs=inputs)
        declare_layers(self.biases, domains, "out")

    def forward(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        """``[B, I]`` -> ``[B, H]``."""
        weights, biases = ([x.unsqueeze(1) for x in each] for each in (self.weights, self.biases))
        return relu_networks([z], weights, biases, domain_lengths, self.dropout)[0]


class ExpertGates(nn.Module):
    """A softmax over the experts for every (domain, task), and the mixture it makes."""

    def __init__(self, domains: Axis, tasks: Axis, experts: int, inputs: Axis):
        super().__init__()
        size = inputs.size
        self.weight = per_domain(domains.size, torch.empty(tasks.size, experts, size).uniform_(-1, 1) * size**-0.5)
        self.bias = nn.Parameter(torch.zeros(domains.size, tasks.size, experts))
        declare(self, {"weight": (domains, tasks, "expert", inputs), "bias": (domains, tasks, "expert")})

    def forward(self, z: Tensor, experts: Sequence[Tensor], domain_lengths: list[int]) -> Sequence[Tensor]:
        """``z [B, I]``, E experts' ``[B, H]`` -> each task's ``[B, H]``."""
        scores = grouped_linear(z, self.weight, self.bias, domain_lengths)
        return mixtures(scores, experts, self.bias.shape[1])


class Towers(nn.Module):
    """A small network for every (domain, task): hidden layers, then the logit.

    All T logits of a row are computed with its domain's towers; those of tasks the domain lacks are never read.
    The logit is float32 even under autocast: in bfloat16 many scores would tie.
    """

    def __init__(self, domains: Axis, tasks: Axis, size: int, widths: Sequence[int], dropout: float):
        super().__init__()
        self.dropout = Dropout(dropout)
        sizes = (size, *widths)
        self.hidden_weights = nn.ParameterList(
            per_domain(domains.size, he_uniform(tasks.size, o, i)) for i, o in zip(sizes, widths, strict=False)
        )
        self.hidden_biases = nn.ParameterList(torch.zeros(domains.size, tasks.size, o) for o in widths)
        last = torch.empty(tasks.size, widths[-1]).uniform_(-1, 1) * widths[-1] ** -0.5
        self.weight = per_domain(domains.size, last)
        self.bias = nn.Parameter(torch.zeros(domains.size, tasks.size))
        declare_layers(self.hidden_weights, domains, tasks, "out", "in")
        declare_layers(self.hidden_biases, domains, tasks, "out")
        outputs = replace(tasks, kind="output")
        declare(at_level("L3", self), {"weight": (domains, outputs, "in"), "bias": (domains, outputs)})

    def forward(self, xs: Sequence[Tensor], domain_lengths: list[int]) -> Tensor:
        """Each task's ``[B, H]`` -> logits ``[B, T]`` float32."""
        hidden = relu_networks(xs, [*self.hidden_weights], [*self.hidden_biases], domain_lengths, self.dropout)
        return tower_logits(hidden, self.weight, self.bias, domain_lengths)
