"""Weights of one model in another whose domains, tasks, features or aspects differ.

Every parameter's axes carry names: domains, tasks, the parts of an input. What both models have is copied by name, and each
kind of axis says what becomes of a name that is new: a task gets the mean of the known ones, a domain a mixture of
them, and a new input starts with weights of zero, so that what the model computed before does not change.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...data.config.sections.model import ModelConfig
from ...data.schema.layout import Layout
from .foundation import Dense, Foundation

Fill = Literal["zero", "mean", "mixture"]


@dataclass(frozen=True)
class Axis:
    """Names of the positions of an axis, and what a new one gets."""

    names: tuple[str, ...]
    fill: Fill


Axes = tuple[Axis | None, ...]
"""Per axis of a parameter its names; None where positions have none, and both models must have as many."""


def shapes_only(layout: Layout, config: ModelConfig) -> Dense:
    """The dense part of a model on the meta device: its parameters have names and shapes, and no values."""
    with torch.device("meta"):
        return Foundation(layout, config, 1).dense


def parameter_axes(dense: Dense, lookups: Sequence[str] | None = None) -> dict[str, Axes]:
    """The axes of every parameter of a model's dense part.

    Args:
        dense: the part.
        lookups: with ``gate: none``, the order of keys that its first layer was trained for, where that is another one.
    """
    domains, tasks = Axis(dense.layout.domains, "mixture"), Axis(dense.layout.tasks, "mean")
    inputs = _input_axis(_in_order(dense.represent.inputs, lookups or ()))
    seen = inputs if dense.adaptive is None else None  # by the head
    of_head = None if dense.shared_head else domains
    rules: list[tuple[str, Axes]] = [
        (r"(history\.)?domain_embedding", (domains, None)),
        (r"adaptive\.shared", (None, inputs)),
        (r"adaptive\.own", (domains, None, inputs)),
        (r"adaptive\.bias", (domains, None)),
        (r"head\.(experts|bottom)\.weights\.0", (None, None, seen)),
        (r"head\.domain_expert\.weights\.0", (of_head, None, seen)),
        (r"head\.domain_expert\.weights\..*", (of_head, None, None)),
        (r"head\.domain_expert\.biases\..*", (of_head, None)),
        (r"head\.gates\.weight", (of_head, tasks, None, seen)),
        (r"head\.gates\.bias", (of_head, tasks, None)),
        (r"head\.(scale|shift)", (of_head, seen)),
        (r"head\.shared_weights\.0", (None, seen)),
        (r"head\.domain_weights\.0", (of_head, None, seen)),
        (r"head\.domain_weights\..*", (of_head, None, None)),
        (r"head\.domain_biases\..*", (of_head, None)),
        (r"head\.towers\.hidden_weights\..*", (of_head, tasks, None, None)),
        (r"head\.towers\.(hidden_biases\..*|weight)", (of_head, tasks, None)),
        (r"head\.towers\.bias", (of_head, tasks)),
    ]
    for name, parameter in dense.named_parameters():
        if re.fullmatch(r"history\.encoder\..*(positions|distances)", name):
            # Counted from the newest, which both models have; what is further back than the old one looked starts with zeros.
            back = Axis(tuple(str(place) for place in range(len(parameter))), "zero")
            rules.append((re.escape(name), (back, *[None] * (parameter.dim() - 1))))
    if (encoder := getattr(dense.represent, "encoder", None)) is not None:
        for owner, aspects in encoder.owners.items():
            gate = rf"represent\.encoder\.gates\.{owner}\."
            rules += [(gate + r"(bias|count_weight|score\.bias)", (Axis(aspects, "mean"),))]
            rules += [(gate + r"score\.weight", (Axis(aspects, "mean"), None))]
        for owner, aspect in encoder.sparse_aspects.items():
            name = rf"represent\.encoder\.sparse_aspects\.{owner}\.projection\.0\.weight"
            rules.append((name, (None, _input_axis(aspect.inputs))))
    return {
        name: next((axes for pattern, axes in rules if re.fullmatch(pattern, name)), (None,) * parameter.dim())
        for name, parameter in dense.named_parameters()
    }


def _in_order(inputs: Sequence[tuple[str, int]], first: Sequence[str]) -> list[tuple[str, int]]:
    """The inputs, those named first in front."""
    sizes = dict(inputs)
    return [*((name, sizes[name]) for name in first), *((name, size) for name, size in inputs if name not in first)]


def _input_axis(inputs: Sequence[tuple[str, int]]) -> Axis:
    return Axis(tuple(f"{name}.{i}" for name, size in inputs for i in range(size)), "zero")


def transferred(value: Tensor, old: Axes, new: Axes, mixtures: Mapping[str, Mapping[str, float]]) -> Tensor:
    """A parameter as another model needs it.

    Args:
        value: float32, of the old model.
        old: its axes there.
        new: its axes in the other model.
        mixtures: new domain -> old domain -> its weight; these sum to 1.
    """
    for number, (before, after) in enumerate(zip(old, new, strict=True)):
        if before is None or after is None or before.names == after.names:
            continue
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
    for number, (before, after) in enumerate(zip(old, new, strict=True)):
        if before is not None and after is not None:
            known = set(before.names)
            found |= torch.tensor([name not in known for name in after.names]).view(
                -1, *[1] * (len(shape) - number - 1)
            )
    return found


def _matrix(before: Axis, after: Axis, mixtures: Mapping[str, Mapping[str, float]]) -> Tensor:
    """``[new, old]``: what each new position takes of each old one."""
    at = {name: i for i, name in enumerate(before.names)}
    matrix = torch.zeros(len(after.names), len(before.names))
    for row, name in zip(matrix, after.names, strict=True):
        if name in at:
            row[at[name]] = 1
        elif after.fill == "mean":
            row[:] = 1 / len(before.names)
        elif after.fill == "mixture":
            for other, weight in mixtures[name].items():
                row[at[other]] = weight
    return matrix
