"""Where a faster form stands in for a plain one, and the switch that turns each off.

``FOUNDRANK_PLAIN`` in the environment of all ranks, parts apart by commas: ``cpu`` and ``gpu`` for layers on such devices,
``tables`` for our own kernels of tables on CPUs, or ``all``.
"""

import os

from torch import Tensor

from ...data.errors import UserError

SWITCH = "FOUNDRANK_PLAIN"
_PARTS = ("cpu", "gpu", "tables")


def kind_of(x: Tensor) -> str:
    """``cpu``, ``cuda``, ...: for what kind of device layers choose their form. Tests and benchmarks put another in its place."""
    return x.device.type


def fast_on_cpu(x: Tensor) -> bool:
    """Whether layers take their form for CPUs where ``x`` is."""
    return kind_of(x) == "cpu" and "cpu" not in _plain(os.environ.get(SWITCH, ""))


def fast_on_gpu(x: Tensor) -> bool:
    """Whether layers take their form for GPUs where ``x`` is."""
    return kind_of(x) == "cuda" and "gpu" not in _plain(os.environ.get(SWITCH, ""))


def fast_tables() -> bool:
    """Whether tables on CPUs have our own kernels.

    Raises:
        UserError: the switch names no part.
    """
    return "tables" not in _plain(os.environ.get(SWITCH, ""))


def _plain(asked: str) -> frozenset[str]:
    # Nothing is kept of former answers: torch.compile looks through such a cache, and warns of it.
    if not asked:
        return frozenset()
    names = {name.strip() for name in asked.split(",")} - {""}
    if unknown := names - {*_PARTS, "all"}:
        raise UserError(SWITCH, f"names {min(unknown)!r}", f"Name {', '.join(_PARTS)}, apart by commas, or all.")
    return frozenset(_PARTS if "all" in names else names)
