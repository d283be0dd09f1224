"""The layers' form for GPUs, where every operator costs the host as long as its work takes: one product for all networks and domains.

The full model's step of 4,096 rows keeps an H200 busy for a millisecond, and the host takes many to start it. So each row goes
through the maps of every domain, in one product, and its own domain's results are picked: more arithmetic, of which there is
plenty, and few operators, none of which depends on how many rows a domain has. Where that would be too wide, bfloat16 has products
grouped by domain. Each function below is one node of autograd's graph, whose gradients are written out: that saves half of the
operators, views and casts among them. On CPUs it is the other way round, and `on_cpu` saves passes over memory instead.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .domain_rows import DomainRows
from .dropout import Dropout

_WIDE = 8192  # columns of all domains together that a row may have
SMALL = 512  # columns of an input of small maps, which stay float32: casts take longer than the product
_ALIGNED = 8  # columns of bfloat16 that grouped products take at a time
_threshold = torch.ops.aten.threshold_backward


def fits(x: Tensor, rows: DomainRows | None, size: int, *widths: int) -> bool:
    """Whether layers have one product for all domains on the GPU where ``x`` is.

    Args:
        x: what the first layer sees.
        rows: of the domains; None: of one, or shared by all. Where only the device knows them, there is no other form.
        size: columns of what they see.
        widths: columns of what each layer gives, of all networks that see the same.
    """
    return rows is None or not rows.on_host or len(rows) * max(widths) <= _WIDE or _grouped(x, size, *widths)


def _grouped(x: Tensor, *widths: int) -> bool:
    aligned = x.is_cuda and x.dtype == torch.bfloat16 and all(width % _ALIGNED == 0 for width in widths)
    return aligned and torch.cuda.get_device_capability(x.device) >= (9, 0)


def relu_networks(
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    rows: DomainRows | None,
    dropout: Dropout,
) -> Tensor:
    """`plain.relu_networks` of what `fits`: ``[E, B, H]``.

    Args:
        inputs: of all networks ``[B, I]``, or of each; or one, these side by side ``[E, B, I]``.
        weights: of each layer ``[domains, E, O, I]``, or ``[E, O, I]`` without ``rows``; float32 or of the inputs' type.
        biases: of each layer ``[domains, E, O]`` or ``[E, O]``.
        rows: None where all domains share the networks.
        dropout: after every layer.
    """
    x = inputs[0] if len(inputs) == 1 else torch.stack(list(inputs))
    for weight, bias in zip(weights, biases, strict=True):
        x = dropout(_layer(x, weight, bias, rows))
    return x


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor, rows: DomainRows | None) -> Tensor:
    """`forms.grouped_linear` of what `fits`; without ``rows`` of a single domain."""
    if rows is not None and bias.numel() > _WIDE and _grouped(x, x.shape[-1], bias.numel() // len(bias)):
        weight, bias = weight.flatten(1, -2)[:, None], bias.flatten(1)[:, None]
        return _grouped_layer(x, weight.to(x.dtype), bias.to(x.dtype), rows)[0]
    return _Shared.apply(x, weight, bias, rows, False)


def _layer(x: Tensor, weight: Tensor, bias: Tensor, rows: DomainRows | None) -> Tensor:
    """``x [B, I]`` or ``[E, B, I]``, ``weight [domains, E, O, I]`` or ``[E, O, I]`` -> ReLU, ``[E, B, O]``."""
    each, out = x.dim() == 3, weight.shape[-2]
    together = out * (1 if each else weight.shape[-3])
    if rows is not None and len(rows) * together > _WIDE and _grouped(x, x.shape[-1], together):
        return F.relu(_grouped_layer(x, weight.to(x.dtype), bias.to(x.dtype), rows))
    return _Each.apply(x, weight, bias, rows) if each else _Shared.apply(x, weight, bias, rows, True)


class _Shared(torch.autograd.Function):
    """All networks see the same ``x [B, I]``: one product, whose columns are (domains x) all others of the bias.

    ``[B, columns of a domain]``; or ReLU of them, network by network, ``[E, B, O]``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, rows: DomainRows | None, relu: bool) -> Tensor:
        narrow = weight.to(x.dtype).view(-1, weight.shape[-1])
        y = (torch.ops.aten._addmm_activation if relu else torch.addmm)(bias.to(x.dtype).view(-1), x, narrow.t())
        if rows is not None:
            y = y.view(-1, y.shape[1] // len(rows)).index_select(0, rows.places)
        if relu:
            y = y.view(-1, *weight.shape[-3:-1])
        ctx.rows, ctx.shape, ctx.dtype = rows, weight.shape, weight.dtype
        ctx.save_for_backward(x, narrow, *((y,) if relu else ()))
        return y.transpose(0, 1) if relu else y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, narrow, *relu = ctx.saved_tensors
        for y in relu:  # into memory of its own, where all of a row lies side by side
            masked = torch.empty_like(y)
            _threshold.grad_input(gradient.transpose(0, 1), y, 0, grad_input=masked)
            gradient = masked.flatten(1)
        if ctx.rows is not None:
            gradient = (gradient.unsqueeze(1) * ctx.rows.each(x.dtype)).flatten(1)
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        return (
            torch.mm(gradient, narrow) if of_x else None,
            torch.mm(gradient.t(), x).to(ctx.dtype).view(ctx.shape) if of_weight else None,
            gradient.sum(0, dtype=ctx.dtype).view(ctx.shape[:-1]) if of_bias else None,
            None,
            None,
        )


class _Each(torch.autograd.Function):
    """Each network has its own of ``x [E, B, I]``: one batched product, whose columns are (domains x) O; and ReLU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, rows: DomainRows | None) -> Tensor:
        networks, out, size = weight.shape[-3:]
        if rows is None:
            narrow, shift = weight.to(x.dtype), bias.to(x.dtype).unsqueeze(1)
        else:
            narrow = _contiguous(weight.transpose(0, 1), x.dtype).view(networks, -1, size)
            shift = _contiguous(bias.transpose(0, 1), x.dtype).view(networks, 1, -1)
        y = torch.baddbmm(shift, x, narrow.transpose(1, 2))
        if rows is not None:
            y = y.view(networks, -1, out).index_select(1, rows.places)
        y = y.relu_()
        ctx.rows, ctx.shape, ctx.dtype = rows, weight.shape, weight.dtype
        ctx.save_for_backward(x, narrow, y.detach())  # another tensor than the output, which would be wrapped again
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, narrow, y = ctx.saved_tensors
        gradient = _threshold(gradient, y, 0)
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        weights = biases = None
        if ctx.rows is None:
            biases = gradient.sum(1, dtype=ctx.dtype) if of_bias else None
            weights = torch.bmm(gradient.transpose(1, 2), x).to(ctx.dtype) if of_weight else None
        else:
            domains, networks, out, size = ctx.shape
            each = gradient.unsqueeze(2) * ctx.rows.each(x.dtype)
            biases = each.permute(2, 0, 1, 3).sum(2, dtype=ctx.dtype) if of_bias else None
            gradient = each.flatten(2)
            if of_weight:
                weights = torch.bmm(gradient.transpose(1, 2), x).view(networks, domains, out, size)
                weights = _contiguous(weights.transpose(0, 1), ctx.dtype)
        return torch.bmm(gradient, narrow) if of_x else None, weights, biases, None


def _contiguous(x: Tensor, dtype: torch.dtype) -> Tensor:
    """In a type, and side by side in memory: one copy for both."""
    return x.contiguous() if x.dtype == dtype else x.to(dtype, memory_format=torch.contiguous_format)


def _grouped_layer(x: Tensor, weight: Tensor, bias: Tensor, rows: DomainRows) -> Tensor:
    """A layer of so many domains that each row can go through its own alone."""
    networks, out = weight.shape[1:3]
    biases = torch.matmul(rows.members_as(bias.dtype), bias.transpose(0, 1))
    if x.dim() == 2:
        every = F.grouped_mm(x, weight.flatten(1, 2).transpose(1, 2), offs=rows.ends)
        return every.view(-1, networks, out).transpose(0, 1) + biases
    starts = torch.arange(networks, device=x.device, dtype=torch.int32)[:, None] * x.shape[1]
    each = weight.transpose(0, 1).flatten(0, 1).transpose(1, 2).contiguous()
    y = F.grouped_mm(x.flatten(0, 1), each, offs=(starts + rows.ends).view(-1))
    return y.view(networks, -1, out) + biases


def normed_linear(
    x: Tensor, weight: Tensor, bias: Tensor, gain: Tensor, shift: Tensor, eps: float, dtype: torch.dtype
) -> Tensor:
    """`forms.normed_linear`, its product in a type."""
    return _Normed.apply(x, weight, bias, gain, shift, eps, dtype)


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, gain: Tensor, shift: Tensor, eps: float, dtype: torch.dtype
    ) -> Tensor:
        ctx.dtype = x.dtype
        x, narrow = x.to(dtype), weight.to(dtype)
        y = torch.addmm(bias.to(dtype), x, narrow.t()).to(gain.dtype)
        out, mean, scale = torch.native_layer_norm(y, gain.shape, gain, shift, eps)
        ctx.save_for_backward(x, narrow, y, mean, scale, gain, shift)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, narrow, y, mean, scale, gain, shift = ctx.saved_tensors
        of_x, of_weight, of_bias, of_gain, of_shift = ctx.needs_input_grad[:5]
        wanted = [True, of_gain, of_shift]
        of_y, *of_norm = torch.ops.aten.native_layer_norm_backward(
            gradient, y, gain.shape, mean, scale, gain, shift, wanted
        )
        narrowed = of_y.to(x.dtype)
        return (
            torch.mm(narrowed, narrow).to(ctx.dtype) if of_x else None,
            torch.mm(narrowed.t(), x).to(gain.dtype) if of_weight else None,
            of_y.sum(0) if of_bias else None,
            *of_norm,
            None,
            None,
        )


def normed_relu(x: Tensor, gain: Tensor, shift: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """`forms.normed_relu`, in a type."""
    return _NormedRelu.apply(x, gain, shift, eps, dtype)


class _NormedRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        out, mean, scale = torch.native_layer_norm(x, gain.shape, gain, shift, eps)
        out = out.relu_()
        ctx.save_for_backward(x, mean, scale, gain, shift, out)
        return out.to(dtype) if dtype != out.dtype else out.view_as(out)  # another tensor than the one saved

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, scale, gain, shift, out = ctx.saved_tensors
        gradient, wanted = _threshold(gradient.to(out.dtype), out, 0), [*ctx.needs_input_grad[:3]]
        found = torch.ops.aten.native_layer_norm_backward(gradient, x, gain.shape, mean, scale, gain, shift, wanted)
        return *found, None, None


def mixtures(scores: Tensor, experts: Tensor) -> Tensor:
    """Scores ``[B, T x E]``, experts' ``[E, B, H]`` -> ``[T, B, H]``; the softmax is float32."""
    return _Mixtures.apply(scores, experts)


class _Mixtures(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, experts: Tensor) -> Tensor:
        scores = scores.unflatten(1, (-1, len(experts)))
        gates = scores.softmax(2, dtype=torch.float32)
        narrow = gates.to(experts.dtype)
        ctx.save_for_backward(gates, narrow, experts)
        return torch.bmm(narrow, experts.transpose(0, 1)).transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gates, narrow, experts = ctx.saved_tensors
        gradient = gradient.transpose(0, 1)
        of_gates = torch.bmm(gradient, experts.permute(1, 2, 0))
        of_experts = torch.bmm(narrow.transpose(1, 2), gradient)
        of_scores = torch.ops.aten._softmax_backward_data(of_gates.float(), gates, 2, torch.float32)
        return of_scores.to(experts.dtype).flatten(1), of_experts.transpose(0, 1)


def tower_logits(xs: Tensor, weight: Tensor, bias: Tensor, rows: DomainRows) -> Tensor:
    """`forms.tower_logits` of ``[T, B, H]``: each row with the weights of its own domain, which are few."""
    return _Logits.apply(xs, weight, bias, rows)


class _Logits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, xs: Tensor, weight: Tensor, bias: Tensor, rows: DomainRows) -> Tensor:
        xs, own = xs.transpose(0, 1), weight.index_select(0, rows.of_row)
        ctx.rows = rows
        ctx.save_for_backward(xs, own)
        return torch.addmm((xs * own).sum(2), rows.members_as(bias.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        xs, own = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        each, columns = gradient.unsqueeze(2), ctx.rows.columns.to(own.dtype)
        of_weights = (columns @ (each * xs).flatten(1)).unflatten(1, own.shape[1:]) if of_weight else None
        return (
            (each * own).to(xs.dtype).transpose(0, 1) if of_x else None,
            of_weights,
            columns @ gradient if of_bias else None,
            None,
        )
