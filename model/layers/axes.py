"""Declared axes: what the axes of each parameter are, with the names along them, said where the parameter is made.

Fine-tuning, other domains or features, freezing and learning rates by level read these declarations. They are kept by the
module that holds the parameter, so they are still there when it is moved, copied, materialised or wrapped.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from ...data.config.sections.training import Level

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Axis:
    """An axis of a parameter.

    Attributes:
        kind: what its positions are: ``domain``, ``task``, ``output`` for what leads directly to a task's logits, ``aspect``,
            ``in`` for the parts of an input, ...
        size: how many there are.
        names: of each position; None where they have none, and models can exchange weights only if both have as many.
        alike: what each named position is, the same for those that are alike; None where all are.
    """

    kind: str
    size: int
    names: tuple[str, ...] | None = None
    alike: tuple[str, ...] | None = None


Axes = tuple[Axis | str, ...]
"""Of a parameter: an axis whose positions have names, or only what it is: ``("out", inputs)``."""


def named(kind: str, names: Iterable[str], alike: Iterable[str] | None = None) -> Axis:
    """An axis with a name for each position, and what each is."""
    every = tuple(names)
    return Axis(kind, len(every), every, None if alike is None else tuple(alike))


def input_axis(inputs: Iterable[tuple[str, int]]) -> Axis:
    """The axis of an input made of parts, each with its name and width."""
    return named("in", (f"{name}.{column}" for name, size in inputs for column in range(size)))


def declare(module: Module, axes: Mapping[str, Axes]) -> Module:
    """Says what the axes of a module's own parameters are, by their names in it; further calls add to this."""
    held: Any = module
    held.declared_axes = {**getattr(module, "declared_axes", {}), **axes}
    return module


def at_level(level: Level, module: Module) -> Module:
    """Says at which level of the model a module's parameters are, and those of its parts that say nothing else."""
    held: Any = module
    held.declared_level = level
    return module


def linear(inputs: Axis | int, outputs: Axis | int, bias: bool = True) -> nn.Linear:
    """``nn.Linear`` with declared axes."""
    sizes = [axis if isinstance(axis, int) else axis.size for axis in (inputs, outputs)]
    of = "in" if isinstance(inputs, int) else inputs
    out = "out" if isinstance(outputs, int) else outputs
    return declare(
        nn.Linear(*sizes, bias=bias), {"weight": (out, of), "bias": (out,)} if bias else {"weight": (out, of)}
    )


def layer_norm(width: int) -> nn.LayerNorm:
    """``nn.LayerNorm`` with declared axes."""
    return declare(nn.LayerNorm(width), {"weight": ("width",), "bias": ("width",)})


def declare_layers(layers: nn.ParameterList, *axes: Axis | str, inputs: Axis | None = None) -> nn.ParameterList:
    """The same axes for a parameter of each layer; the last one of the first layer is ``inputs``, where that is given."""
    first = axes if inputs is None else (*axes[:-1], inputs)
    return declare(layers, {str(at): axes if at else first for at in range(len(layers))})


def axes_of(model: nn.Module) -> dict[str, Axes]:
    """The declared axes of each parameter, by its name in ``model``.

    Raises:
        TypeError: a parameter has no declaration, or one for another number of axes or another size.
    """
    found = {}
    for module_name, module in model.named_modules():
        declared: Mapping[str, Axes] = getattr(module, "declared_axes", {})
        for name, parameter in module.named_parameters(module_name, recurse=False):
            axes = declared.get(name.removeprefix(f"{module_name}."))
            if axes is None:
                raise TypeError(f"{name} of {type(module).__name__} has no declared axes; see `declare`")
            fits = (
                isinstance(axis, str) or axis.size == size for axis, size in zip(axes, parameter.shape, strict=False)
            )
            if len(axes) != parameter.dim() or not all(fits):
                raise TypeError(f"{name} is {list(parameter.shape)}, but its declared axes are {axes}")
            found[name] = axes
    return found


def levels_of(model: nn.Module) -> dict[str, Level]:
    """The declared level of each parameter, by its name in ``model``.

    Raises:
        TypeError: neither the module that holds a parameter nor one around it says a level.
    """
    return dict(_levels(model, "", None))


def _levels(module: nn.Module, prefix: str, around: Level | None) -> Iterator[tuple[str, Level]]:
    level: Level | None = getattr(module, "declared_level", around)
    for name, _ in module.named_parameters(recurse=False):
        if level is None:
            raise TypeError(f"{prefix}{name} is at no level; see `at_level`")
        yield prefix + name, level
    for name, child in module.named_children():
        yield from _levels(child, f"{prefix}{name}.", level)
