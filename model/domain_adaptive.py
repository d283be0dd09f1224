"""Per-domain linear maps of rows grouped by domain, and the domain-adaptive layer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
    """Each row through the linear map of its own domain.

    Args:
        x: ``[B, I]``, rows grouped by domain.
        weight: ``[domains, O, I]``.
        bias: ``[domains, O]``.
        domain_lengths: rows per domain, zeros included; sums to B.

    Returns:
        ``[B, O]``.
    """
    # Empty domains go through too: with none at all, as when B = 0, the parameters would drop out of the graph.
    # A product per domain, not one for all: on CPUs torch's grouped_mm takes nearly twice as long at 70 domains.
    x, weight, bias = as_autocast(x, weight, bias)
    if len(weight) == 1:
        return F.linear(x, weight[0], bias[0])
    parts = zip(x.split(domain_lengths), weight.unbind(), bias.unbind(), strict=True)
    return torch.cat([F.linear(rows, w, b) for rows, w, b in parts])


def grouped_task_linear(x: Tensor, weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
    """Each row's vector of each task through the linear map of its own domain and that task.

    Args:
        x: ``[T, B, I]``, rows grouped by domain.
        weight: ``[domains, T, O, I]``.
        bias: ``[domains, T, O]``.
        domain_lengths: rows per domain, zeros included; sums to B.

    Returns:
        ``[T, B, O]``.
    """
    x, weight, bias = as_autocast(x, weight, bias)
    parts = zip(x.split(domain_lengths, 1), weight.unbind(), bias.unbind(), strict=True)
    return torch.cat([torch.baddbmm(b.unsqueeze(1), rows, w.mT) for rows, w, b in parts], 1)


def as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the type that autocast, where it is on, would give each product of their parts; once for all parts."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)


def he_uniform(*shape: int) -> Tensor:
    """Weights ``[..., O, I]`` of ReLU layers (He et al., 2015); the leading axes are independent maps."""
    return torch.empty(shape).uniform_(-1, 1) * (6 / shape[-1]) ** 0.5


def per_domain(domains: int, values: Tensor) -> nn.Parameter:
    """A parameter ``[domains, ...]`` that is the same in every domain: they start shared and specialise."""
    return nn.Parameter(values.expand(domains, *values.shape).clone())


class DomainAdaptiveLayer(nn.Module):
    """z = W_d x + b_d + e_d: every domain's representation, mapped into one space.

    After the description of the S&R Multi-Domain Foundation (CIKM 2023). The domain embedding is the one the gates
    use; a shared projection brings it from width D to the width of z.

    W_d = W + D_d, with D_d starting at zero: every row trains W, so a domain with few rows follows the others instead
    of staying near where its own matrix started, and weight decay pulls it back to them.
    """

    def __init__(self, domains: int, size: int, width: int, embedding_width: int):
        super().__init__()
        self.shared = nn.Parameter(torch.empty(width, size).uniform_(-1, 1) * (3 / size) ** 0.5)
        self.own = nn.Parameter(torch.zeros(domains, width, size))
        self.bias = nn.Parameter(torch.zeros(domains, width))
        self.embedding_projection = nn.Linear(embedding_width, width, bias=False)

    def forward(self, x: Tensor, domain_embedding: Tensor, domain_lengths: list[int]) -> Tensor:
        """``x [B, I]``, ``domain_embedding [domains, D]`` -> z ``[B, O]``."""
        shift = self.bias + self.embedding_projection(domain_embedding)
        return grouped_linear(x, self.shared + self.own, shift, domain_lengths)
