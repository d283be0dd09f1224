"""Jensen-Shannon divergence."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...data.settings_base import Strict
from ..layers.domain_rows import DomainRows, domain_rows

MIN_ROWS = 2
_LEAST = 1e-30  # of a probability: keeps its logarithm finite where a softmax underflowed to 0


class JS(Strict):
    """Jensen-Shannon divergence between softmax distributions over the coordinates of z (Lin, 1991)."""

    kind: Literal["js"] = "js"

    def penalty(self, z: Tensor, domain_lengths: list[int]) -> Tensor:
        """A scalar; arguments as in `alignments`."""
        return js_divergence(z, domain_lengths)


def js_divergence(z: Tensor, domain_lengths: list[int]) -> Tensor:
    """Generalised Jensen-Shannon divergence (Lin, 1991): H(mean_d p_d) - mean_d H(p_d), in nats, at most ln(domains).

    p_d, the distribution of domain d over the K coordinates, is the mean of softmax(z) over its rows.
    """
    return _Divergence.apply(z, domain_rows(domain_lengths, z.device))


class _Divergence(torch.autograd.Function):
    """As sum_d s_d sum_k p_dk (log p_dk - log m_k) with m = sum_d s_d p_d, whose gradient by p_dk is s_d (log p_dk - log m_k).

    The terms of the derivative that are the same for all k are left out: the gradient of a softmax knows nothing of them. Of one
    domain alone p is m, and both are 0.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, rows: DomainRows) -> Tensor:
        of_rows, takes_part = z.softmax(1), rows.counts >= MIN_ROWS
        share = (takes_part / takes_part.sum().clamp_min(1)).to(z.dtype)
        counts = rows.counts.clamp_min(1)
        p = rows.columns.to(z.dtype) @ of_rows / counts
        mixed = torch.mm(share.t(), p).clamp_min(_LEAST)
        gradient = share * (p.clamp_min(_LEAST) / mixed).log()
        ctx.rows = rows
        ctx.save_for_backward(of_rows, gradient, counts)
        return (gradient * p).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        of_rows, gradient, counts = ctx.saved_tensors
        of_sums = gradient / counts * upstream
        of_rows_gradient = ctx.rows.members_as(of_rows.dtype) @ of_sums
        return torch.ops.aten._softmax_backward_data(of_rows_gradient, of_rows, 1, of_rows.dtype), None
