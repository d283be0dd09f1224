"""The layers that heads are made of: each is computed in its plain form, or in a faster one that the device has for it.

This is the only place that chooses among the forms of `plain`, `on_cpu` and `on_gpu`, which give the same up to rounding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import on_cpu, on_gpu, plain
from .dropout import Dropout
from .fast import fast_on_cpu, fast_on_gpu
from .on_cpu import EVERY, Columns


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
    if fast_on_cpu(x):
        return on_cpu.grouped_linear(x, weight, bias, domain_lengths)
    if fast_on_gpu(x) and on_gpu.fits(x, *weight.shape[:2]):
        return on_gpu.grouped_linear(x, weight, bias, domain_lengths)
    return plain.grouped_linear(x, weight, bias, domain_lengths)


def relu_networks(
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    domain_lengths: list[int],
    dropout: Dropout,
    learned: Columns = EVERY,
) -> list[Tensor]:
    """E networks of layers ``dropout(ReLU(W x + b))``, whose W and b are those of each row's domain.

    Args:
        inputs: ``[B, I]``, rows grouped by domain, one that all networks see or each network's own.
        weights: of each layer ``[domains, E, O, I]``, of the inputs' type.
        biases: of each layer ``[domains, E, O]``.
        domain_lengths: rows per domain, zeros included; sums to B.
        dropout: after every layer.
        learned: columns of the inputs that something is learned from; nobody asks for the gradients of the others, which
            may be 0.

    Returns:
        Each network's ``[B, H]``.
    """
    if fast_on_cpu(inputs[0]):
        return on_cpu.relu_networks(inputs, weights, biases, domain_lengths, dropout, learned)
    if fast_on_gpu(inputs[0]) and on_gpu.fits(inputs[0], len(weights[0]), *(weight.shape[2] for weight in weights)):
        return on_gpu.relu_networks(inputs, weights, biases, domain_lengths, dropout)
    return plain.relu_networks(inputs, weights, biases, domain_lengths, dropout)


def mixtures(gates: Tensor, experts: Sequence[Tensor]) -> list[Tensor]:
    """Sums of E experts' ``[B, H]`` weighted by gates ``[T, E, B]``: T times ``[B, H]``."""
    return (on_cpu if fast_on_cpu(gates) else plain).mixtures(gates, experts)


def tower_logits(xs: Sequence[Tensor], weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
    """The last layer of every (domain, task), in float32 even under autocast: in bfloat16 many scores would tie.

    Args:
        xs: each task's ``[B, H]``, rows grouped by domain.
        weight: ``[domains, T, H]`` float32.
        bias: ``[domains, T]`` float32.
        domain_lengths: rows per domain, zeros included; sums to B.

    Returns:
        Logits ``[B, T]`` float32.
    """
    with torch.autocast(weight.device.type, enabled=False):
        floats = [x.float() for x in xs]
        if fast_on_gpu(weight):
            return on_gpu.tower_logits(floats, weight, bias, domain_lengths)
        of_tasks = zip(floats, weight.split(1, 1), bias.split(1, 1), strict=True)
        return torch.cat([grouped_linear(x, w, b, domain_lengths) for x, w, b in of_tasks], 1)


def as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the type that autocast, where it is on, would give each product of their parts; once for all parts."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)
