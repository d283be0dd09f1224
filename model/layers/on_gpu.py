"""The layers' form for GPUs, where every operator costs the host as long as its work takes: one product for all networks and domains.

The plain MMoE's step of 4,096 rows keeps an H200 busy for a millisecond; a product for each network of each domain takes
the host ten to start. On CPUs it is the other way round, and `on_cpu` saves passes over memory instead.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .domain_rows import domain_groups, of_own_domain
from .dropout import Dropout

_ALIGNED = 8  # columns of bfloat16 that grouped products take at a time


def fits(x: Tensor, domains: int, *widths: int) -> bool:
    """Whether layers of some ``widths`` have one product for all domains on the GPU where ``x`` is."""
    grouped = x.dtype == torch.bfloat16 and all(width % _ALIGNED == 0 for width in (x.shape[-1], *widths))
    return domains == 1 or (grouped and torch.cuda.get_device_capability(x.device) >= (9, 0))


def relu_networks(
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    domain_lengths: list[int],
    dropout: Dropout,
) -> list[Tensor]:
    """`plain.relu_networks` of what `fits`."""
    x = torch.stack(list(inputs))
    for weight, bias in zip(weights, biases, strict=True):
        x = dropout(F.relu(_layer(x, weight, bias, domain_lengths)))
    return list(x.unbind())


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
    """`plain.grouped_linear` of what `fits`."""
    return _layer(x[None], weight[:, None], bias[:, None], domain_lengths)[0]


def tower_logits(xs: Sequence[Tensor], weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
    """`forms.tower_logits` of float32."""
    every = torch.bmm(torch.stack(list(xs)), weight.permute(1, 2, 0)) + bias.T[:, None]
    return of_own_domain(every.permute(1, 2, 0), domain_lengths)


def _layer(x: Tensor, weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
    """``x [E or 1, B, I]``, ``weight [domains, E, O, I]``, ``bias [domains, E, O]`` -> ``[E, B, O]``."""
    domains, networks, out, size = weight.shape
    rows = x.shape[1]
    if domains == 1:
        if len(x) == 1:
            every = F.linear(x[0], weight.view(-1, size), bias.view(-1))
            return every.view(rows, networks, out).transpose(0, 1)
        return torch.baddbmm(bias[0, :, None], x, weight[0].transpose(1, 2))
    ends, members = domain_groups(tuple(domain_lengths), x.device)
    biases = torch.matmul(members.to(bias.dtype), bias.transpose(0, 1))
    if len(x) == 1:
        every = F.grouped_mm(x[0], weight.flatten(1, 2).transpose(1, 2), offs=ends)
        return every.view(rows, networks, out).transpose(0, 1) + biases
    of_networks = torch.cat([ends + rows * network for network in range(networks)])
    each = F.grouped_mm(
        x.flatten(0, 1), weight.transpose(0, 1).flatten(0, 1).transpose(1, 2).contiguous(), offs=of_networks
    )
    return each.view(networks, rows, out) + biases
