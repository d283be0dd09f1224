"""Multi-task heads. Each maps ``(z [B, I], domain_lengths)`` to logits ``[B, T]`` float32, rows grouped by domain.

What exists once per domain starts equal in all of them. The common arguments:

    size         I, width of z
    domains      number of domains
    tasks        T, the union of the domains' tasks
    widths       layers of each expert, or of the shared bottom
    tower_widths hidden layers of each (domain, task) tower
    dropout      inside experts and towers
    learned      columns of z that depend on parameters; experts make no gradients of the others
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.domain_adaptive import he_uniform
from ..layers.dropout import Dropout
from ..layers.forms import EVERY, Columns, grouped_linear
from .experts import DomainExpert, ExpertGates, Experts, Towers


class MMoE(nn.Module):
    """Multi-gate mixture of experts (Ma et al., 2018): shared experts, a gate and a tower per (domain, task)."""

    def __init__(
        self,
        size: int,
        domains: int,
        tasks: int,
        experts: int,
        widths: Sequence[int],
        tower_widths: Sequence[int],
        dropout: float,
        learned: Columns = EVERY,
    ):
        super().__init__()
        self.experts = Experts(experts, size, widths, dropout, learned)
        self.gates = ExpertGates(domains, tasks, experts, size)
        self.towers = Towers(domains, tasks, widths[-1], tower_widths, dropout)

    def forward(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        return self.towers(self.gates(z, self.experts(z), domain_lengths), domain_lengths)


class PLE(nn.Module):
    """Progressive layered extraction (Tang et al., 2020) with one level, the groups being the domains.

    A (domain, task) gate mixes the shared experts and the one expert only its domain has.
    """

    def __init__(
        self,
        size: int,
        domains: int,
        tasks: int,
        experts: int,
        widths: Sequence[int],
        tower_widths: Sequence[int],
        dropout: float,
        learned: Columns = EVERY,
    ):
        super().__init__()
        self.experts = Experts(experts, size, widths, dropout, learned)
        self.domain_expert = DomainExpert(domains, size, widths, dropout)
        self.gates = ExpertGates(domains, tasks, experts + 1, size)
        self.towers = Towers(domains, tasks, widths[-1], tower_widths, dropout)

    def forward(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        own = self.domain_expert(z, domain_lengths)
        return self.towers(self.gates(z, [*self.experts(z), own], domain_lengths), domain_lengths)


class SharedBottom(nn.Module):
    """Hard sharing (Caruana, 1997): one network for all, a tower per (domain, task)."""

    def __init__(
        self,
        size: int,
        domains: int,
        tasks: int,
        widths: Sequence[int],
        tower_widths: Sequence[int],
        dropout: float,
        learned: Columns = EVERY,
    ):
        super().__init__()
        self.tasks = tasks
        self.bottom = Experts(1, size, widths, dropout, learned)
        self.towers = Towers(domains, tasks, widths[-1], tower_widths, dropout)

    def forward(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        (h,) = self.bottom(z)
        return self.towers([h] * self.tasks, domain_lengths)


class STAR(nn.Module):
    """Star topology (Sheng et al., 2021): a layer's weight is a shared one times the domain's own, its biases add up.

    Simplified: partitioned batch normalisation is a LayerNorm with a scale and a shift per domain, which needs no
    statistics of the batch, and the auxiliary network is left out, because z has the domain embedding in it.
    """

    def __init__(
        self, size: int, domains: int, tasks: int, widths: Sequence[int], tower_widths: Sequence[int], dropout: float
    ):
        super().__init__()
        self.tasks = tasks
        self.dropout = Dropout(dropout)
        self.scale = nn.Parameter(torch.ones(domains, size))
        self.shift = nn.Parameter(torch.zeros(domains, size))
        sizes = (size, *widths)
        self.shared_weights = nn.ParameterList(he_uniform(o, i) for i, o in zip(sizes, widths, strict=False))
        self.shared_biases = nn.ParameterList(torch.zeros(o) for o in widths)
        self.domain_weights = nn.ParameterList(torch.ones(domains, o, i) for i, o in zip(sizes, widths, strict=False))
        self.domain_biases = nn.ParameterList(torch.zeros(domains, o) for o in widths)
        self.towers = Towers(domains, tasks, widths[-1], tower_widths, dropout)

    def forward(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        normal = F.layer_norm(z, z.shape[1:]).split(domain_lengths)
        parts = zip(normal, self.scale.unbind(), self.shift.unbind(), strict=True)
        x = torch.cat([rows * scale + shift for rows, scale, shift in parts])
        layers = zip(self.shared_weights, self.domain_weights, self.shared_biases, self.domain_biases, strict=True)
        for shared, own, shared_bias, own_bias in layers:
            x = grouped_linear(x, shared * own, shared_bias + own_bias, domain_lengths)
            x = self.dropout(F.relu(x))
        return self.towers([x] * self.tasks, domain_lengths)


def make_head(
    kind: str,
    size: int,
    domains: int,
    tasks: int,
    experts: int,
    widths: Sequence[int],
    tower_widths: Sequence[int],
    dropout: float,
    learned: Columns = EVERY,
) -> nn.Module:
    """The head called ``kind`` in the experiment; `shared_bottom` and `star` have no use for ``experts``."""
    if kind == "mmoe":
        return MMoE(size, domains, tasks, experts, widths, tower_widths, dropout, learned)
    if kind == "ple":
        return PLE(size, domains, tasks, experts, widths, tower_widths, dropout, learned)
    if kind == "star":
        return STAR(size, domains, tasks, widths, tower_widths, dropout)
    return SharedBottom(size, domains, tasks, widths, tower_widths, dropout, learned)
