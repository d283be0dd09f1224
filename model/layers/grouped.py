"""Linear maps of rows grouped by domain, each domain's rows through its own.

Results and gradients are written where they belong: at 70 domains, putting together what 70 products gave took as long as
a third of them. A product per domain, not one for all: on CPUs torch's grouped_mm takes nearly twice as long at 70 domains.
Empty domains go through too, so that every parameter has a gradient even where B = 0.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .stacked import fits_stacked, grouped_product


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
    x, weight, bias = as_autocast(x, weight, bias)
    if len(weight) == 1:
        return F.linear(x, weight[0], bias[0])
    if fits_stacked(x, *weight.shape[:2]):
        return grouped_product(x, weight, bias, domain_lengths)
    return _GroupedLinear.apply(x, weight, bias, domain_lengths)


def as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the type that autocast, where it is on, would give each product of their parts; once for all parts."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)


class _GroupedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.domain_lengths = domain_lengths
        return products(x, weight, bias, domain_lengths)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        weights = torch.empty_like(weight) if of_weight else None
        biases = weight.new_empty(weight.shape[:2]) if of_bias else None
        gradients_of_parameters(gradient, x, ctx.domain_lengths, weights, biases)
        rows = gradient_of_rows(gradient, weight, ctx.domain_lengths) if of_x else None
        return rows, weights, biases, None


def products(x: Tensor, weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
    """What `grouped_linear` gives, without a graph."""
    out = x.new_empty(len(x), weight.shape[1])
    for rows, w, b, target in zip(
        x.split(domain_lengths), weight.unbind(), bias.unbind(), out.split(domain_lengths), strict=True
    ):
        torch.addmm(b, rows, w.T, out=target)
    return out


def gradients_of_parameters(
    gradient: Tensor, x: Tensor, domain_lengths: list[int], of_weight: Tensor | None, of_bias: Tensor | None
) -> None:
    """Writes the gradients of ``weight [domains, O, I]`` and ``bias [domains, O]``, where there is a place for them.

    Args:
        gradient: of what `grouped_linear` gave.
        x: what it saw.
        domain_lengths: as it had them.
        of_weight: to be written; may be strided.
        of_bias: likewise.
    """
    gradients = gradient.split(domain_lengths)
    if of_weight is not None:
        for g, rows, target in zip(gradients, x.split(domain_lengths), of_weight.unbind(), strict=True):
            torch.mm(g.T, rows, out=target)
    if of_bias is not None:
        for g, target in zip(gradients, of_bias.unbind(), strict=True):
            torch.sum(g, 0, out=target)


def gradient_of_rows(
    gradient: Tensor, weight: Tensor, domain_lengths: list[int], so_far: Tensor | None = None
) -> Tensor:
    """The gradient ``[B, I]`` of what `grouped_linear` saw, added to ``so_far`` in place if there is one."""
    out = gradient.new_empty(len(gradient), weight.shape[2]) if so_far is None else so_far
    for g, w, target in zip(gradient.split(domain_lengths), weight.unbind(), out.split(domain_lengths), strict=True):
        if so_far is None:
            torch.mm(g, w, out=target)
        else:
            target.addmm_(g, w)
    return out
