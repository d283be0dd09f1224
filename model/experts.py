"""Feed-forward blocks of the heads: stacked experts, experts of one domain, and (domain, task) gates and towers."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .domain_adaptive import grouped_linear, grouped_task_linear, he_uniform, per_domain
from .dropout import Dropout


class Experts(nn.Module):
    """E feed-forward networks that see the same rows; ReLU and dropout after every layer."""

    def __init__(self, experts: int, size: int, widths: Sequence[int], dropout: float):
        super().__init__()
        self.dropout = Dropout(dropout)
        sizes = (size, *widths)
        self.weights = nn.ParameterList(he_uniform(experts, o, i) for i, o in zip(sizes, widths, strict=False))
        self.biases = nn.ParameterList(torch.zeros(experts, o) for o in widths)

    def forward(self, z: Tensor) -> Tensor:
        """``[B, I]`` -> ``[E, B, H]``."""
        experts, width, _ = self.weights[0].shape
        # All experts read the same rows, so their first layer is one product.
        x = F.linear(z, self.weights[0].flatten(0, 1), self.biases[0].flatten())
        x = self.dropout(F.relu(x)).view(-1, experts, width).transpose(0, 1)
        for weight, bias in zip(list(self.weights)[1:], list(self.biases)[1:], strict=True):
            x = self.dropout(F.relu(torch.baddbmm(bias.unsqueeze(1), x, weight.mT)))
        return x


class DomainExpert(nn.Module):
    """One feed-forward network per domain, seen by that domain's rows only."""

    def __init__(self, domains: int, size: int, widths: Sequence[int], dropout: float):
        super().__init__()
        self.dropout = Dropout(dropout)
        sizes = (size, *widths)
        self.weights = nn.ParameterList(
            per_domain(domains, he_uniform(o, i)) for i, o in zip(sizes, widths, strict=False)
        )
        self.biases = nn.ParameterList(torch.zeros(domains, o) for o in widths)

    def forward(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        """``[B, I]`` -> ``[B, H]``."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            z = self.dropout(F.relu(grouped_linear(z, weight, bias, domain_lengths)))
        return z


class ExpertGates(nn.Module):
    """A softmax over the experts for every (domain, task), and the mixture it makes."""

    def __init__(self, domains: int, tasks: int, experts: int, size: int):
        super().__init__()
        self.weight = per_domain(domains, torch.empty(tasks, experts, size).uniform_(-1, 1) * size**-0.5)
        self.bias = nn.Parameter(torch.zeros(domains, tasks, experts))

    def forward(self, z: Tensor, experts: Tensor, domain_lengths: list[int]) -> Tensor:
        """``z [B, I]``, ``experts [E, B, H]`` -> ``[B, T, H]``."""
        tasks, count = self.bias.shape[1:]
        scores = grouped_linear(z, self.weight.flatten(1, 2), self.bias.flatten(1), domain_lengths)
        gates = scores.float().view(-1, tasks, count).softmax(-1)
        return torch.bmm(gates, experts.transpose(0, 1))


class Towers(nn.Module):
    """A small network for every (domain, task): one hidden layer, then the logit.

    All T logits of a row are computed with its domain's towers; those of tasks the domain lacks are never read.
    In float32 even under autocast: bfloat16 logits would tie many scores.
    """

    def __init__(self, domains: int, tasks: int, size: int, width: int, dropout: float):
        super().__init__()
        self.dropout = Dropout(dropout)
        self.hidden_weight = per_domain(domains, he_uniform(tasks, width, size))
        self.hidden_bias = nn.Parameter(torch.zeros(domains, tasks, width))
        self.weight = per_domain(domains, torch.empty(tasks, 1, width).uniform_(-1, 1) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(domains, tasks, 1))

    def forward(self, x: Tensor, domain_lengths: list[int]) -> Tensor:
        """``[B, T, H]`` -> logits ``[B, T]`` float32."""
        with torch.autocast(x.device.type, enabled=False):
            hidden = grouped_task_linear(x.float(), self.hidden_weight, self.hidden_bias, domain_lengths)
            hidden = self.dropout(F.relu(hidden))
            return grouped_task_linear(hidden, self.weight, self.bias, domain_lengths).squeeze(-1)
