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
from ..layers.forms import EVERY, Columns, as_autocast, grouped_linear, mixtures, relu_networks, tower_logits

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

    def forward(self, z: Tensor) -> list[Tensor]:
        """``[B, I]`` -> each expert's ``[B, H]``."""
        weights, biases = ([x.unsqueeze(0) for x in as_autocast(*each)] for each in (self.weights, self.biases))
        return relu_networks(as_autocast(z), weights, biases, [len(z)], self.dropout, self.learned)


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
        weights, biases = ([x.unsqueeze(1) for x in as_autocast(*each)] for each in (self.weights, self.biases))
        return relu_networks(as_autocast(z), weights, biases, domain_lengths, self.dropout)[0]


class ExpertGates(nn.Module):
    """A softmax over the experts for every (domain, task), and the mixture it makes."""

    def __init__(self, domains: Axis, tasks: Axis, experts: int, inputs: Axis):
        super().__init__()
        size = inputs.size
        self.weight = per_domain(domains.size, torch.empty(tasks.size, experts, size).uniform_(-1, 1) * size**-0.5)
        self.bias = nn.Parameter(torch.zeros(domains.size, tasks.size, experts))
        declare(self, {"weight": (domains, tasks, "expert", inputs), "bias": (domains, tasks, "expert")})

    def forward(self, z: Tensor, experts: Sequence[Tensor], domain_lengths: list[int]) -> list[Tensor]:
        """``z [B, I]``, E experts' ``[B, H]`` -> each task's ``[B, H]``."""
        tasks, count = self.bias.shape[1:]
        scores = grouped_linear(z, self.weight.flatten(1, 2), self.bias.flatten(1), domain_lengths)
        # Rows last: a softmax over a few values that lie side by side is slow.
        gates = scores.float().T.reshape(tasks, count, -1).softmax(1).to(experts[0].dtype)
        return mixtures(gates, experts)


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
        weights, biases = as_autocast(*self.hidden_weights), as_autocast(*self.hidden_biases)
        hidden = relu_networks(as_autocast(*xs), weights, biases, domain_lengths, self.dropout)
        return tower_logits(hidden, self.weight, self.bias, domain_lengths)
