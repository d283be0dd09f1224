"""Weights of one model in another whose domains, tasks, features or aspects differ.

Every parameter's axes are declared (`layers.axes`). What both models have is copied by name, and the kind of an axis says
what becomes of a name that is new: a task or an aspect gets the mean of the known ones that are alike, a domain a mixture of
them, and anything else, such as a new input, starts with zeros, so that what the model computed before does not change. Where
no known task is like a new one, what leads to its output starts as the mean of all, and the output itself at zero: the logit of
a click says nothing about the logarithm of an amount.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ...data.config.sections.model import ModelConfig
from ...data.schema.layout import Layout
from ..layers.axes import Axes, Axis, axes_of, input_axis
from .foundation import Dense, Foundation

_MEANS = ("task", "output", "aspect")  # kinds of axes whose new positions begin as the mean of the known ones


def shapes_only(layout: Layout, config: ModelConfig) -> Dense:
    """The dense part of a model on the meta device: its parameters have names and shapes, and no values."""
    with torch.device("meta"):
        return Foundation(layout, config, 1).dense


def axes_with_lookups_in_order(dense: Dense, first: Sequence[str]) -> dict[str, Axes]:
    """The axes of the parameters of an old run with ``gate: none``, whose lookups were in another order.

    Args:
        dense: today's model of that run.
        first: keys that came first in what represents a row.
    """
    sizes = dict(dense.represent.inputs)
    others = [(name, size) for name, size in dense.represent.inputs if name not in first]
    then = input_axis([*((name, sizes[name]) for name in first), *others])
    return {
        name: tuple(then if axis == dense.inputs else axis for axis in axes) for name, axes in axes_of(dense).items()
    }


def transferred(value: Tensor, old: Axes, new: Axes, mixtures: Mapping[str, Mapping[str, float]]) -> Tensor:
    """A parameter as another model needs it.

    Args:
        value: float32, of the old model.
        old: its axes there.
        new: its axes in the other model.
        mixtures: new domain -> old domain -> its weight; these sum to 1.
    """
    for number, before, after in _other_names(old, new):
        matrix = _matrix(before, after, mixtures).to(value)
        value = (value.movedim(number, -1) @ matrix.T).movedim(-1, number)
    return value.contiguous()


def new_positions(shape: Sequence[int], old: Axes | None, new: Axes) -> Tensor:
    """Where a parameter holds what the other model has not.

    Args:
        shape: of the parameter.
        old: its axes in the other model; None if that lacks the parameter.
        new: its axes.

    Returns:
        bool of that shape.
    """
    if old is None:
        return torch.ones(tuple(shape), dtype=torch.bool)
    found = torch.zeros(tuple(shape), dtype=torch.bool)
    for number, before, after in _other_names(old, new):
        is_new = torch.tensor([name not in (before.names or ()) for name in after.names or ()])
        found |= is_new.view(-1, *[1] * (len(shape) - number - 1))
    return found


def _other_names(old: Axes, new: Axes) -> Iterator[tuple[int, Axis, Axis]]:
    """Axes whose names differ: which it is, the old one and the new one."""
    for number, (before, after) in enumerate(zip(old, new, strict=True)):
        if isinstance(before, str) or isinstance(after, str) or before.names is None or after.names is None:
            continue
        if before.names != after.names:
            yield number, before, after


def _matrix(before: Axis, after: Axis, mixtures: Mapping[str, Mapping[str, float]]) -> Tensor:
    """``[new, old]``: what each new position takes of each old one."""
    matrix = torch.zeros(after.size, before.size)
    place = {name: at for at, name in enumerate(before.names or ())}
    for row, name, what in zip(matrix, after.names or (), after.alike or (None,) * after.size, strict=True):
        if name in place:
            row[place[name]] = 1
        elif after.kind in _MEANS:
            alike = torch.tensor([what is None or what == other for other in before.alike or (what,) * before.size])
            if alike.any():
                row[alike] = 1 / int(alike.sum())
            elif after.kind != "output":
                row[:] = 1 / before.size
        elif after.kind == "domain":
            for other, weight in mixtures[name].items():
                row[place[other]] = weight
    return matrix
