"""Feed-forward blocks of the heads: stacked experts, experts of one domain, and (domain, task) gates and towers."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..layers.domain_adaptive import he_uniform, per_domain
from ..layers.dropout import Dropout
from ..layers.grouped import as_autocast, grouped_linear
from ..layers.relu_networks import EVERY, Columns, relu_networks
from ..layers.stacked import mixtures, of_own_domain


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
        weights, biases = ([x.unsqueeze(0) for x in as_autocast(*each)] for each in (self.weights, self.biases))
        return relu_networks(as_autocast(z), weights, biases, [len(z)], self.dropout, self.learned)


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
        weights, biases = ([x.unsqueeze(1) for x in as_autocast(*each)] for each in (self.weights, self.biases))
        return relu_networks(as_autocast(z), weights, biases, domain_lengths, self.dropout)[0]


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
        return mixtures(gates, experts) if z.is_cuda else list(_Mixtures.apply(gates, *experts))


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
        weights, biases = as_autocast(*self.hidden_weights), as_autocast(*self.hidden_biases)
        hidden = relu_networks(as_autocast(*xs), weights, biases, domain_lengths, self.dropout)
        with torch.autocast(hidden[0].device.type, enabled=False):
            if hidden[0].is_cuda:
                every = torch.bmm(torch.stack(hidden).float(), self.weight.permute(1, 2, 0)) + self.bias.T[:, None]
                return of_own_domain(every.permute(1, 2, 0), domain_lengths)
            of_tasks = zip(hidden, self.weight.split(1, 1), self.bias.split(1, 1), strict=True)
            return torch.cat([grouped_linear(x.float(), w, b, domain_lengths) for x, w, b in of_tasks], 1)


def _weighted_sum(weights: Iterable[Tensor], vectors: Iterable[Tensor]) -> Tensor:
    """Sum of ``[B, 1]`` times ``[B, H]``."""
    (weight, vector), *others = zip(weights, vectors, strict=True)
    total = weight * vector
    for weight, vector in others:
        total.addcmul_(weight, vector)
    return total
