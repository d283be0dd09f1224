"""The layers that heads are made of: each is computed in its plain form, or in a faster one that the device has for it.

This is the only place that chooses among the forms of `plain`, `on_cpu` and `on_gpu`, which give the same up to rounding.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import on_cpu, on_gpu, plain
from .domain_rows import domain_rows
from .dropout import Dropout
from .fast import fast_on_cpu, fast_on_gpu
from .on_cpu import EVERY, Columns


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
    """Each row through the linear map of its own domain.

    Args:
        x: ``[B, I]``, rows grouped by domain.
        weight: ``[domains, O, I]``; O may be several axes.
        bias: ``[domains, O]``.
        domain_lengths: rows per domain, zeros included; sums to B.

    Returns:
        ``[B, O]``, of several axes side by side.
    """
    if fast_on_gpu(x):
        (x,) = as_autocast(x)
        rows = None if len(weight) == 1 else domain_rows(domain_lengths, x.device)
        if on_gpu.fits(x, rows, weight.shape[-1], bias.numel() // len(bias)):
            return on_gpu.grouped_linear(x, weight, bias, rows)
    x, weight, bias = as_autocast(x, weight.flatten(1, -2), bias.flatten(1))
    if len(weight) == 1:
        return F.linear(x, weight[0], bias[0])
    return (on_cpu if fast_on_cpu(x) else plain).grouped_linear(x, weight, bias, domain_lengths)


def relu_networks(
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    domain_lengths: list[int] | None,
    dropout: Dropout,
    learned: Columns = EVERY,
) -> Sequence[Tensor]:
    """E networks of layers ``dropout(ReLU(W x + b))``, whose W and b are those of each row's domain.

    Args:
        inputs: ``[B, I]``, rows grouped by domain, one that all networks see or each network's own; these also as one tensor.
        weights: of each layer ``[domains, E, O, I]``.
        biases: of each layer ``[domains, E, O]``.
        domain_lengths: rows per domain, zeros included; sums to B. None where all domains share the networks: weights and biases are
            then without their first axis.
        dropout: after every layer.
        learned: columns of the inputs that something is learned from; nobody asks for the gradients of the others, which
            may be 0.

    Returns:
        Each network's ``[B, H]``; on GPUs one tensor ``[E, B, H]``.
    """
    first = inputs if isinstance(inputs, Tensor) else inputs[0]
    if fast_on_gpu(first):
        given = as_autocast(first) if first is inputs else as_autocast(*inputs)
        alone = domain_lengths is not None and len(domain_lengths) == 1
        if alone:
            weights, biases = ([x.squeeze(0) for x in of_layers] for of_layers in (weights, biases))
        rows = None if domain_lengths is None or alone else domain_rows(domain_lengths, first.device)
        together = weights[0].shape[-3] if len(given) == 1 and first.dim() == 2 else 1  # networks in one product
        widths = (weight.shape[-2] * together for weight in weights)
        if on_gpu.fits(given[0], rows, first.shape[-1], *widths):
            found: Any = on_gpu.relu_networks(given, weights, biases, rows, dropout)  # a sequence, too
            return found
    given, weights, biases = as_autocast(*inputs), as_autocast(*weights), as_autocast(*biases)
    if domain_lengths is None:
        domain_lengths = [len(first)]
        weights, biases = ([x.unsqueeze(0) for x in of_layers] for of_layers in (weights, biases))
    if fast_on_cpu(first):
        return on_cpu.relu_networks(given, weights, biases, domain_lengths, dropout, learned)
    return plain.relu_networks(given, weights, biases, domain_lengths, dropout)


def mixtures(scores: Tensor, experts: Sequence[Tensor], tasks: int) -> Sequence[Tensor]:
    """Sums of E experts' ``[B, H]`` weighted by the softmax over them of scores ``[B, T x E]``: T times ``[B, H]``."""
    if fast_on_gpu(scores):
        found: Any = on_gpu.mixtures(scores, stacked(experts))  # a sequence, too
        return found
    # Rows last: a softmax over a few values that lie side by side is slow.
    gates = scores.float().T.reshape(tasks, len(experts), -1).softmax(1).to(experts[0].dtype)
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
        if fast_on_gpu(weight):
            return on_gpu.tower_logits(stacked(xs), weight, bias, domain_rows(domain_lengths, weight.device))
        of_tasks = zip(xs, weight.split(1, 1), bias.split(1, 1), strict=True)
        return torch.cat([grouped_linear(x.float(), w, b, domain_lengths) for x, w, b in of_tasks], 1)


def small_linear(x: Tensor, project: nn.Module) -> Tensor:
    """``[B, I]`` through a linear map that is a small part of the model: on GPUs in float32, since casts would take longer."""
    with torch.autocast(x.device.type, enabled=torch.is_autocast_enabled(x.device.type) and not _stays_wide(x)):
        return project(x)


def normed_linear(x: Tensor, project: nn.Linear, norm: nn.LayerNorm, weight: Tensor | None = None) -> Tensor:
    """As `small_linear`, and what it gives normalised, ``[B, O]`` float32.

    Args:
        x: what is mapped.
        project: the map, with a bias.
        norm: with a gain and a shift.
        weight: ``[O, I]``, in place of the map's.
    """
    weight = project.weight if weight is None else weight
    if not fast_on_gpu(x):
        return norm(F.linear(x, weight, project.bias))
    autocasts = torch.is_autocast_enabled(x.device.type) and not _stays_wide(x)
    dtype = torch.get_autocast_dtype(x.device.type) if autocasts else x.dtype
    with torch.autocast(x.device.type, enabled=False):
        return on_gpu.normed_linear(x, weight, project.bias, norm.weight, norm.bias, norm.eps, dtype)


def normed_relu(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """``[B, K]`` float32, normalised, and its ReLU; on GPUs in the type that autocast gives products of it."""
    if not fast_on_gpu(x):
        return F.relu(norm(x))
    autocasts = torch.is_autocast_enabled(x.device.type)
    dtype = torch.get_autocast_dtype(x.device.type) if autocasts else x.dtype
    return on_gpu.normed_relu(x, norm.weight, norm.bias, norm.eps, dtype)


def _stays_wide(x: Tensor) -> bool:
    return fast_on_gpu(x) and x.shape[-1] <= on_gpu.SMALL


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape as one, unless they are."""
    return tensors if isinstance(tensors, Tensor) else torch.stack(list(tensors))


def as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the type that autocast, where it is on, would give each product of their parts; once for all parts."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)
