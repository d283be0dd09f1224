"""Feed-forward blocks of the heads: stacked experts, experts of one domain, and (domain, task) gates and towers."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .domain_adaptive import as_autocast, grouped_linear, grouped_task_linear, he_uniform, per_domain
from .dropout import Dropout


class Experts(nn.Module):
    """E feed-forward networks that see the same rows; ReLU and dropout after every layer."""

    def __init__(self, experts: int, size: int, widths: Sequence[int], dropout: float):
        super().__init__()
        self.dropout = Dropout(dropout)
        sizes = (size, *widths)
        self.weights = nn.ParameterList(he_uniform(experts, o, i) for i, o in zip(sizes, widths, strict=False))
        self.biases = nn.ParameterList(torch.zeros(experts, o) for o in widths)

    def forward(self, z: Tensor) -> list[Tensor]:
        """``[B, I]`` -> each expert's ``[B, H]``."""
        # A product per expert reads and writes whole rows; on a CPU, a batched one over a strided input takes a fifth longer.
        xs = [*as_autocast(z)] * len(self.biases[0])
        for layer in zip(self.weights, self.biases, strict=True):
            weights, biases = as_autocast(*layer)
            parts = zip(xs, weights.unbind(), biases.unbind(), strict=True)
            xs = [self.dropout(F.relu(F.linear(x, w, b))) for x, w, b in parts]
        return xs


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

    def forward(self, z: Tensor, experts: Sequence[Tensor], domain_lengths: list[int]) -> Tensor:
        """``z [B, I]``, E experts' ``[B, H]`` -> ``[T, B, H]``."""
        tasks, count = self.bias.shape[1:]
        scores = grouped_linear(z, self.weight.flatten(1, 2), self.bias.flatten(1), domain_lengths)
        gates = scores.float().view(-1, tasks, count).softmax(-1).to(experts[0].dtype)
        # Not one product: a tiny one per row would spend its time on starting thousands of them.
        return torch.stack([_weighted_sum(gates[:, task], experts) for task in range(tasks)])


class Towers(nn.Module):
    """A small network for every (domain, task): hidden layers, then the logit.

    All T logits of a row are computed with its domain's towers; those of tasks the domain lacks are never read.
    The logit is float32 even under autocast: in bfloat16 many scores would tie.
    """

    def __init__(self, domains: int, tasks: int, size: int, widths: Sequence[int], dropout: float):
        super().__init__()
        self.dropout = Dropout(dropout)
        sizes = (size, *widths)
        self.hidden_weights = nn.ParameterList(
            per_domain(domains, he_uniform(tasks, o, i)) for i, o in zip(sizes, widths, strict=False)
        )
        self.hidden_biases = nn.ParameterList(torch.zeros(domains, tasks, o) for o in widths)
        self.weight = per_domain(domains, torch.empty(tasks, widths[-1]).uniform_(-1, 1) * widths[-1] ** -0.5)
        self.bias = nn.Parameter(torch.zeros(domains, tasks))

    def forward(self, x: Tensor, domain_lengths: list[int]) -> Tensor:
        """``[T, B, H]`` -> logits ``[B, T]`` float32."""
        for weight, bias in zip(self.hidden_weights, self.hidden_biases, strict=True):
            x = self.dropout(F.relu(grouped_task_linear(x, weight, bias, domain_lengths)))
        with torch.autocast(x.device.type, enabled=False):
            parts = zip(x.split(domain_lengths, 1), self.weight.unbind(), self.bias.unbind(), strict=True)
            logits = [(rows.float() @ w.unsqueeze(2)).squeeze(2).T + b for rows, w, b in parts]
            return torch.cat(logits)


def _weighted_sum(weights: Tensor, experts: Sequence[Tensor]) -> Tensor:
    """``[B, E]``, E times ``[B, H]`` -> ``[B, H]``."""
    first, *others = zip(weights.split(1, 1), experts, strict=True)
    total = first[0] * first[1]
    for weight, expert in others:
        total = torch.addcmul(total, weight, expert)
    return total
