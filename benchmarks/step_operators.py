"""What the host starts in a training step: calls of torch's operators, by the part of the model that they belong to.

Counted is what is dispatched below autograd, the level at which a GPU's kernels are started: views and allocations too, since
they cost the host about as long as starting a kernel; not what one operator calls inside itself.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from foundrank.model.foundation import foundation
from foundrank.model.foundation.foundation import dense_part
from foundrank.model.layers import fast

_NO_WORK = ("detach", "empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "lift_fresh", "alias")
PHASES = ("forward", "backward", "optimizer")
REST = "tables, pipeline"
_OF_MODULES = {
    "represent": "representation",
    "represent.encoder.gates": "gates",
    "adaptive": "domain layer",
    "norm": "domain layer",
    "head": "experts, towers",
    "history": "history",
}


class Operators(TorchDispatchMode):
    """Counts operators while it is on; those of a backward belong to the part whose forward made their node.

    Attributes:
        calls: (phase, part, whether it starts no work, as a view or an allocation) -> how many.
        names: (phase, part, operator) -> how many.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.calls: Counter[tuple[str, str, bool]] = Counter()
        self.names: Counter[tuple[str, str, str]] = Counter()
        self._in_optimizer = False
        self._dense = dense_part(model)
        self._inside = [REST]
        self._begins: list[int] = []  # of autograd's numbers, where another part begins
        self._parts: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "profiler":  # a mark for traces
            return func(*args, **(kwargs or {}))
        phase, part = self._whose()
        name = func.overloadpacket.__name__
        self.calls[phase, part, func.is_view or name in _NO_WORK] += 1
        self.names[phase, part, name] += 1
        return func(*args, **(kwargs or {}))

    def _whose(self) -> tuple[str, str]:
        node = torch._C._current_autograd_node()
        if node is not None:
            at = bisect_right(self._begins, node._sequence_nr()) - 1
            known = at >= 0 and node.name() != "torch::autograd::AccumulateGrad"
            return "backward", self._parts[at] if known else REST
        return ("optimizer", "optimizer") if self._in_optimizer else ("forward", self._inside[-1])

    @contextmanager
    def of_part(self, part: str) -> Iterator[None]:
        """Within it operators, and the backward of what they give, are a part's."""
        self._enter(part)
        yield
        self._leave()

    def _enter(self, part: str) -> None:
        self._inside.append(part)
        self._note()

    def _leave(self, *_: object) -> None:
        self._inside.pop()
        self._note()

    def _note(self) -> None:
        self._begins.append(torch._C._autograd._get_sequence_nr())  # type: ignore[attr-defined]
        self._parts.append(self._inside[-1])

    @contextmanager
    def watching(self, optimizer: Any) -> Iterator[None]:
        """Within it operators are counted, those of the optimizer's steps apart."""
        dense, before, step = self._dense, foundation.multitask_loss, optimizer.step

        def counted_step() -> None:
            self._in_optimizer = True
            step()
            self._in_optimizer = False

        modules: list[tuple[nn.Module, str]] = [(dense, "the rest of the network")]
        for name, part in _OF_MODULES.items():
            try:
                found = dense.get_submodule(name)
            except AttributeError:
                continue
            modules += [(each, part) for each in (found.children() if isinstance(found, nn.ModuleDict) else [found])]
        handles = []
        for module, part in modules:
            handles.append(module.register_forward_pre_hook(lambda *_, part=part: self._enter(part)))
            handles.append(module.register_forward_hook(self._leave))
        align = dense.align
        foundation.multitask_loss = self._as_part("losses", before)
        dense.align = self._as_part("alignment", align)
        optimizer.step = counted_step
        try:
            with self:
                yield
        finally:
            foundation.multitask_loss, dense.align, optimizer.step = before, align, step
            for handle in handles:
                handle.remove()

    def _as_part(self, part: str, of: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            with self.of_part(part):
                return of(*arguments, **named)

        return counted


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Within it layers take the form that they have on GPUs, wherever their tensors are."""
    before = fast.kind_of
    fast.kind_of = lambda x: "cuda"
    try:
        yield
    finally:
        fast.kind_of = before


def table(counted: Operators, steps: int) -> str:
    """Markdown: a row per part, a column per phase, and how many start work: are neither views nor allocations."""
    parts = list(dict.fromkeys(part for _, part, _ in counted.calls))
    lines = ["| operators a step | forward | backward | optimizer | all | at work |", "| --- |" + " ---: |" * 5]
    for part in [*sorted(parts), "all"]:
        of = {key: n / steps for key, n in counted.calls.items() if part in (key[1], "all")}
        phases = [sum(n for (phase, _, _), n in of.items() if phase == each) for each in PHASES]
        working = sum(n for (_, _, idle), n in of.items() if not idle)
        lines.append(f"| {part} | " + " | ".join(f"{n:,.0f}" for n in (*phases, sum(phases), working)) + " |")
    return "\n".join(lines)
