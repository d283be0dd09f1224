"""Rows grouped by domain: which belong to which, and what they add up to, in the same order every time, also on GPUs."""

from functools import lru_cache
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor


def of_own_domain(x: Tensor, domain_lengths: list[int]) -> Tensor:
    """``[B, domains, ...]``, rows grouped by domain -> ``[B, ...]``: of each row what belongs to its own domain."""
    members = domain_members(domain_lengths, x.device)
    return x.masked_fill(~members[..., *(None,) * (x.ndim - 2)], 0.0).sum(1)


def domain_members(domain_lengths: list[int], device: torch.device) -> Tensor:
    """``[B, domains]`` bool, whether a row is of a domain; rows are grouped by domain."""
    return domain_groups(tuple(domain_lengths), device)[1]


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


@lru_cache(maxsize=2)
def domain_groups(domain_lengths: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each domain's rows end, ``[domains]`` int32, and whether a row is of a domain, ``[B, domains]`` bool.

    Kept for the other layers of a step. The lengths go over without the host's waiting for them.
    """
    ends = torch.tensor(list(accumulate(domain_lengths)), dtype=torch.int32, pin_memory=device.type == "cuda")
    ends = ends.to(device, non_blocking=True)
    rows = torch.arange(sum(domain_lengths), device=device, dtype=torch.int32)[:, None]
    starts = F.pad(ends[:-1], (1, 0))
    return ends, (rows >= starts) & (rows < ends)
