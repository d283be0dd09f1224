"""The layers' form for CPUs, in as few passes over memory as they allow.

On a CPU, what a layer does outside of its matrix products takes a third of its time: activations of ``[4096, 768]`` do not
fit the caches, so each pass over them is memory's. Here ReLU is part of the product where the library has that, a
network's gradient goes down all of its layers while it is in the caches, and the gradients of shared inputs are added up by
the products that make them. Results and gradients are written where they belong: at 70 domains, putting together what 70
products gave took as long as a third of them. A product per domain, not one for all: torch's grouped_mm takes nearly twice
as long at 70 domains. Empty domains go through too, so that every parameter has a gradient even where B = 0.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .dropout import Dropout
from .precision import fuses

Columns = Sequence[slice]
EVERY: Columns = (slice(None),)
_FIRST = 4  # arguments of the function that come before tensors
_BLOCK = 768  # rows whose activations of a few layers stay in a core's cache


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
    """`plain.grouped_linear`."""
    return _GroupedLinear.apply(x, weight, bias, domain_lengths)


def mixtures(gates: Tensor, experts: Sequence[Tensor]) -> list[Tensor]:
    """`plain.mixtures`."""
    return list(_Mixtures.apply(gates, *experts))


def relu_networks(
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    domain_lengths: list[int],
    dropout: Dropout,
    learned: Columns,
) -> list[Tensor]:
    """`plain.relu_networks`; gradients of the inputs' ``learned`` columns alone."""
    if not torch.is_grad_enabled() and len(domain_lengths) == 1 and inputs[0].dtype == torch.float32:
        return _in_blocks(inputs, weights, biases, dropout)
    return list(_ReluNetworks.apply(domain_lengths, dropout, learned, len(inputs), *inputs, *weights, *biases))


def _in_blocks(
    inputs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], dropout: Dropout
) -> list[Tensor]:
    """Where nothing need be kept for a backward, some rows go through all layers before others begin."""
    rows, networks = len(inputs[0]), weights[0].shape[1]
    outputs = [inputs[0].new_empty(rows, weights[-1].shape[2]) for _ in range(networks)]
    for start in range(0, rows, _BLOCK):
        for number, output in enumerate(outputs):
            x, target = inputs[number % len(inputs)][start : start + _BLOCK], output[start : start + _BLOCK]
            for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
                out = target if layer + 1 == len(weights) else None
                x = dropout(torch.addmm(bias[0, number], x, weight[0, number].T, out=out).relu_())
            if x is not target:
                target.copy_(x)  # dropout made another
    return outputs


class _ReluNetworks(torch.autograd.Function):
    """Saves what each layer of each network sees, and what it gives last."""

    @staticmethod
    def forward(
        ctx: Any, domain_lengths: list[int], dropout: Dropout, learned: Columns, count: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        inputs, weights, biases = _split(tensors, count)
        seen: list[list[Tensor]] = []
        for number in range(weights[0].shape[1]):
            xs = [inputs[number % count]]
            for weight, bias in zip(weights, biases, strict=True):
                xs.append(dropout(_linear_relu(xs[-1], weight[:, number], bias[:, number], domain_lengths)))
            seen.append(xs)
        ctx.save_for_backward(*inputs, *weights, *(x for xs in seen for x in xs[1:]))
        ctx.count, ctx.layers, ctx.scale, ctx.learned = count, len(weights), dropout.scale, learned
        ctx.domain_lengths = domain_lengths
        return tuple(xs[-1] for xs in seen)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        count, layers, lengths = ctx.count, ctx.layers, ctx.domain_lengths
        inputs, weights = ctx.saved_tensors[:count], ctx.saved_tensors[count : count + layers]
        outputs = ctx.saved_tensors[count + layers :]
        of_inputs: list[Tensor | None] = [None] * count
        wanted = ctx.needs_input_grad[_FIRST + count :]  # weights, then biases; not those that are frozen
        of_weights = [torch.empty_like(w) if want else None for w, want in zip(weights, wanted, strict=False)]
        of_biases = [
            w.new_empty(w.shape[:3]) if want else None for w, want in zip(weights, wanted[layers:], strict=True)
        ]
        for number, gradient in enumerate(gradients):
            at = number % count
            xs = (inputs[at], *outputs[number * layers :][:layers])
            # A unit that dropout silenced is 0 like one that ReLU did.
            gradient = torch.ops.aten.threshold_backward(gradient, xs[-1], 0)
            for layer in reversed(range(layers)):
                if ctx.scale != 1:
                    gradient.mul_(ctx.scale)
                places = (None if of is None else of[:, number] for of in (of_weights[layer], of_biases[layer]))
                _gradients_of_parameters(gradient, xs[layer], lengths, *places)
                weight = weights[layer][:, number]
                if layer:
                    gradient = _gradient_of_rows(gradient, weight, lengths)
                    torch.ops.aten.threshold_backward.grad_input(gradient, xs[layer], 0, grad_input=gradient)
                elif ctx.needs_input_grad[_FIRST + at]:
                    of_inputs[at] = _gradient_of_rows(gradient, _picked(weight, ctx.learned), lengths, of_inputs[at])
        placed = (g if g is None else _put_back(g, ctx.learned, x) for g, x in zip(of_inputs, inputs, strict=True))
        return *(None,) * _FIRST, *placed, *of_weights, *of_biases


def _split(tensors: Sequence[Tensor], inputs: int) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    layers = (len(tensors) - inputs) // 2
    return tensors[:inputs], tensors[inputs : inputs + layers], tensors[inputs + layers :]


def _picked(x: Tensor, columns: Columns) -> Tensor:
    """Some columns of ``[..., I]``."""
    return x[..., columns[0]] if len(columns) == 1 else torch.cat([x[..., each] for each in columns], -1)


def _put_back(picked: Tensor, columns: Columns, x: Tensor) -> Tensor:
    """As wide as ``x`` again, with 0 in all other columns."""
    if picked.shape == x.shape:
        return picked
    whole = torch.zeros_like(x)
    places = [whole[:, each] for each in columns]
    for place, part in zip(places, picked.split([place.shape[1] for place in places], 1), strict=True):
        place.copy_(part)
    return whole


def _linear_relu(x: Tensor, weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
    if len(domain_lengths) == 1 and fuses(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight[0], bias[0], "relu", [], "")
    return F.relu_(_products(x, weight, bias, domain_lengths))


class _GroupedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.domain_lengths = domain_lengths
        return _products(x, weight, bias, domain_lengths)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        weights = torch.empty_like(weight) if of_weight else None
        biases = weight.new_empty(weight.shape[:2]) if of_bias else None
        _gradients_of_parameters(gradient, x, ctx.domain_lengths, weights, biases)
        rows = _gradient_of_rows(gradient, weight, ctx.domain_lengths) if of_x else None
        return rows, weights, biases, None


def _products(x: Tensor, weight: Tensor, bias: Tensor, domain_lengths: list[int]) -> Tensor:
    """What `grouped_linear` gives, without a graph."""
    out = x.new_empty(len(x), weight.shape[1])
    for rows, w, b, target in zip(
        x.split(domain_lengths), weight.unbind(), bias.unbind(), out.split(domain_lengths), strict=True
    ):
        torch.addmm(b, rows, w.T, out=target)
    return out


def _gradients_of_parameters(
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


def _gradient_of_rows(
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


class _Mixtures(torch.autograd.Function):
    """Sums of E experts' ``[B, H]`` weighted by gates ``[T, E, B]``: T times ``[B, H]``.

    Not one product: a tiny one per row would spend its time on starting thousands of them.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, *experts: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(gates, *experts)
        return tuple(_weighted_sum(of_task, experts) for of_task in gates.unsqueeze(3))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        gates, *experts = ctx.saved_tensors
        of_gates = torch.empty_like(gates)
        for of_task, gradient in zip(of_gates, gradients, strict=True):
            for out, expert in zip(of_task, experts, strict=True):
                torch.sum(gradient * expert, 1, out=out)
        return of_gates, *(_weighted_sum(weights, gradients) for weights in gates.unsqueeze(3).unbind(1))


def _weighted_sum(weights: Iterable[Tensor], vectors: Iterable[Tensor]) -> Tensor:
    """Sum of ``[B, 1]`` times ``[B, H]``."""
    (weight, vector), *others = zip(weights, vectors, strict=True)
    total = weight * vector
    for weight, vector in others:
        total.addcmul_(weight, vector)
    return total
