"""One product per layer for all networks and domains: for GPUs, where every operator costs the host as long as its work takes.

The plain MMoE's step of 4,096 rows keeps an H200 busy for a millisecond; a product for each network of each domain takes
the host ten to start. On CPUs it is the other way round, and `relu_networks` and `grouped` save passes over memory instead.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from .dropout import Dropout

_ALIGNED = 8  # columns of bfloat16 that grouped products take at a time


def fits_stacked(x: Tensor, domains: int, *widths: int) -> bool:
    """Whether layers of some ``widths`` have one product for all domains where ``x`` is."""
    if not x.is_cuda:
        return False
    grouped = x.dtype == torch.bfloat16 and all(width % _ALIGNED == 0 for width in (x.shape[-1], *widths))
    return domains == 1 or (grouped and torch.cuda.get_device_capability(x.device) >= (9, 0))


def stacked_relu_networks(
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    domain_lengths: list[int],
    dropout: Dropout,
) -> list[Tensor]:
    """`relu_networks.relu_networks`, with gradients for all columns of the inputs that ask for them."""
    x = torch.stack(list(inputs))
    for weight, bias in zip(weights, biases, strict=True):
        x = dropout(F.relu(_layer(x, weight, bias, domain_lengths)))
    return list(x.unbind())


def grouped_product(x: Tensor, weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
    """`grouped.grouped_linear` of what `fits_stacked`."""
    return _layer(x[None], weight[:, None], bias[:, None], domain_lengths)[0]


def of_own_domain(x: Tensor, domain_lengths: list[int]) -> Tensor:
    """``[B, domains, ...]``, rows grouped by domain -> ``[B, ...]``: of each row what belongs to its own domain."""
    members = domain_members(domain_lengths, x.device)
    return x.masked_fill(~members[..., *(None,) * (x.ndim - 2)], 0.0).sum(1)


def domain_members(domain_lengths: list[int], device: torch.device) -> Tensor:
    """``[B, domains]`` bool, whether a row is of a domain; rows are grouped by domain."""
    return _groups(tuple(domain_lengths), device)[1]


def to_rows(values: Tensor, domain_lengths: list[int]) -> Tensor:
    """``[domains, ...]`` -> ``[B, ...]``, each row its domain's; the gradient adds up in the same order every time, also on GPUs.

    A choice, though a product: nothing is rounded.
    """
    with torch.autocast(values.device.type, enabled=False):
        return torch.tensordot(domain_members(domain_lengths, values.device).to(values.dtype), values, 1)


def domain_sums(rows: Tensor, domain_lengths: list[int]) -> Tensor:
    """``[B, K]`` float32, grouped by domain -> ``[domains, K]``, added up in the same order every time."""
    with torch.autocast(rows.device.type, enabled=False):
        return domain_members(domain_lengths, rows.device).T.to(rows.dtype) @ rows


def mixtures(gates: Tensor, experts: Sequence[Tensor]) -> list[Tensor]:
    """Sums of E experts' ``[B, H]`` weighted by gates ``[T, E, B]``: T times ``[B, H]``."""
    mixed = torch.bmm(gates.permute(2, 0, 1), torch.stack(list(experts), 1))
    return list(mixed.unbind(1))


def _layer(x: Tensor, weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
    """``x [E or 1, B, I]``, ``weight [domains, E, O, I]``, ``bias [domains, E, O]`` -> ``[E, B, O]``."""
    domains, networks, out, size = weight.shape
    rows = x.shape[1]
    if domains == 1:
        if len(x) == 1:
            every = F.linear(x[0], weight.view(-1, size), bias.view(-1))
            return every.view(rows, networks, out).transpose(0, 1)
        return torch.baddbmm(bias[0, :, None], x, weight[0].transpose(1, 2))
    ends, members = _groups(tuple(domain_lengths), x.device)
    biases = torch.matmul(members.to(bias.dtype), bias.transpose(0, 1))
    if len(x) == 1:
        every = F.grouped_mm(x[0], weight.flatten(1, 2).transpose(1, 2), offs=ends)
        return every.view(rows, networks, out).transpose(0, 1) + biases
    of_networks = torch.cat([ends + rows * network for network in range(networks)])
    each = F.grouped_mm(
        x.flatten(0, 1), weight.transpose(0, 1).flatten(0, 1).transpose(1, 2).contiguous(), offs=of_networks
    )
    return each.view(networks, rows, out) + biases


@lru_cache(maxsize=2)
def _groups(domain_lengths: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each domain's rows end, ``[domains]`` int32, and whether a row is of a domain, ``[B, domains]`` bool.

    Kept for the other layers of a step. The lengths go over without the host's waiting for them.
    """
    ends = torch.tensor(list(accumulate(domain_lengths)), dtype=torch.int32, pin_memory=device.type == "cuda")
    ends = ends.to(device, non_blocking=True)
    rows = torch.arange(sum(domain_lengths), device=device, dtype=torch.int32)[:, None]
    starts = F.pad(ends[:-1], (1, 0))
    return ends, (rows >= starts) & (rows < ends)
