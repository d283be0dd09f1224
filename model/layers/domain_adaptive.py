"""Parameters that exist once per domain, and the domain-adaptive layer."""

import torch
from torch import Tensor, nn

from .axes import Axis, declare, linear
from .forms import grouped_linear


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

    def __init__(self, domains: Axis, inputs: Axis, width: int, embedding_width: int):
        super().__init__()
        size = inputs.size
        self.shared = nn.Parameter(torch.empty(width, size).uniform_(-1, 1) * (3 / size) ** 0.5)
        self.own = nn.Parameter(torch.zeros(domains.size, width, size))
        self.bias = nn.Parameter(torch.zeros(domains.size, width))
        self.embedding_projection = linear(embedding_width, width, bias=False)
        declare(self, {"shared": ("out", inputs), "own": (domains, "out", inputs), "bias": (domains, "out")})

    def forward(self, x: Tensor, domain_embedding: Tensor, domain_lengths: list[int]) -> Tensor:
        """``x [B, I]``, ``domain_embedding [domains, D]`` -> z ``[B, O]``."""
        with torch.autocast(x.device.type, enabled=False):  # of a few rows
            shift = torch.addmm(self.bias, domain_embedding, self.embedding_projection.weight.t())
        return grouped_linear(x, self.shared + self.own, shift, domain_lengths)
