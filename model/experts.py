"""Feed-forward blocks of the heads: stacked experts, experts of one domain, and (domain, task) gates and towers."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .domain_adaptive import as_autocast, grouped_linear, grouped_task_linear, he_uniform, per_domain
from .dropout import Dropout
from .relu_networks import EVERY, Columns, relu_networks


class Experts(nn.Module):
    """E feed-forward networks that see the same rows; ReLU and dropout after every layer.

    ``learned``: columns of what they see that depend on parameters.
    """

    def __init__(self, experts: int, size: int, widths: Sequence[int], dropout: float, learned: Columns = EVERY):
        super().__init__()
        self.learned = learned
        self.dropout = Dropout(dropout)
        sizes = (size, *widths)
        self.weights = nn.ParameterList(he_uniform(experts, o, i) for i, o in zip(sizes, widths, strict=False))
        self.biases = nn.ParameterList(torch.zeros(experts, o) for o in widths)

    def forward(self, z: Tensor) -> list[Tensor]:
        """``[B, I]`` -> each expert's ``[B, H]``."""
        weights, biases = as_autocast(*self.weights), as_autocast(*self.biases)
        return relu_networks(as_autocast(z), weights, biases, self.dropout, self.learned)


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

    def forward(self, z: Tensor, experts: Sequence[Tensor], domain_lengths: list[int]) -> list[Tensor]:
        """``z [B, I]``, E experts' ``[B, H]`` -> each task's ``[B, H]``."""
        tasks, count = self.bias.shape[1:]
        scores = grouped_linear(z, self.weight.flatten(1, 2), self.bias.flatten(1), domain_lengths)
        # Rows last: a softmax over a few values that lie side by side is slow.
        gates = scores.float().T.reshape(tasks, count, -1).softmax(1).to(experts[0].dtype)
        return list(_Mixtures.apply(gates, *experts))


class _Mixtures(torch.autograd.Function):
    """Sums of E experts' ``[B, H]`` weighted by gates ``[T, E, B]``: T times ``[B, H]``.

    Not one product: a tiny one per row would spend its time on starting thousands of them.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, *experts: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(gates, *experts)
        return tuple(_weighted_sum(of_task, experts) for of_task in gates.unsqueeze(3))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        gates, *experts = ctx.saved_tensors
        of_gates = torch.empty_like(gates)
        for of_task, gradient in zip(of_gates, gradients, strict=True):
            for out, expert in zip(of_task, experts, strict=True):
                torch.sum(gradient * expert, 1, out=out)
        return of_gates, *(_weighted_sum(weights, gradients) for weights in gates.unsqueeze(3).unbind(1))


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

    def forward(self, xs: Sequence[Tensor], domain_lengths: list[int]) -> Tensor:
        """Each task's ``[B, H]`` -> logits ``[B, T]`` float32."""
        if len(domain_lengths) == 1:
            return self._of_one_domain(xs)
        x = torch.stack(list(xs))
        for weight, bias in zip(self.hidden_weights, self.hidden_biases, strict=True):
            x = self.dropout(F.relu(grouped_task_linear(x, weight, bias, domain_lengths)))
        with torch.autocast(x.device.type, enabled=False):
            parts = zip(x.split(domain_lengths, 1), self.weight.unbind(), self.bias.unbind(), strict=True)
            logits = [(rows.float() @ w.unsqueeze(2)).squeeze(2).T + b for rows, w, b in parts]
            return torch.cat(logits)

    def _of_one_domain(self, xs: Sequence[Tensor]) -> Tensor:
        weights, biases = as_autocast(*self.hidden_weights), as_autocast(*self.hidden_biases)
        hidden = relu_networks(as_autocast(*xs), [w[0] for w in weights], [b[0] for b in biases], self.dropout)
        with torch.autocast(hidden[0].device.type, enabled=False):
            parts = zip(hidden, self.weight[0].unbind(), self.bias[0].unbind(), strict=True)
            return torch.stack([rows.float() @ w + b for rows, w, b in parts], 1)


def _weighted_sum(weights: Iterable[Tensor], vectors: Iterable[Tensor]) -> Tensor:
    """Sum of ``[B, 1]`` times ``[B, H]``."""
    (weight, vector), *others = zip(weights, vectors, strict=True)
    total = weight * vector
    for weight, vector in others:
        total.addcmul_(weight, vector)
    return total
