"""From numbers of runs, and their values in each replicate, to differences between arms with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.config.sections.task import Metric
from ...model.tasks.metrics import defined
from ..retrieval.protocol import NEXT_ITEM
from .arms import Arm
from .intervals import interval_of_difference
from .statistics import Number

MEAN = "mean"
BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"


@dataclass
class _Part:
    """A slice: how many rows, which users, and of each run its numbers and their values in each replicate, some at a time."""

    rows: int
    users: NDArray
    numbers: list[dict[str, Number]]
    drawn: list[list[dict[str, NDArray]]] = field(default_factory=list)


@dataclass
class Surface:
    """A domain's rows of one task in all slices."""

    domain: str
    task: str
    parts: dict[str, _Part] = field(default_factory=dict)

    def add(self, name: str, rows: int, users: NDArray, numbers: list[dict[str, Number]]) -> None:
        """Args: the slice's name, how many rows it has, ``[U]`` the users it has, and of each run metric -> number."""
        self.parts[name] = _Part(rows, users, numbers)

    def draw(self, weights: NDArray[np.float64]) -> None:
        """Computes all numbers where users count ``weights [R, users]`` times."""
        for part in self.parts.values():
            part.drawn.append(
                [{key: number.under.under(weights) for key, number in of_run.items()} for of_run in part.numbers]
            )


@dataclass(frozen=True)
class _Values:
    """A number of all runs in a slice of one or several surfaces.

    Attributes:
        rows: how many.
        users: ``[U]``.
        values: ``[runs]``.
        drawn: ``[runs, R]``.
    """

    rows: int
    users: NDArray
    values: NDArray
    drawn: NDArray

    @classmethod
    def of(cls, part: _Part, key: str) -> "_Values":
        """Of one surface."""
        values = np.array([of_run[key].value for of_run in part.numbers])
        drawn = [np.concatenate([of_run[n][key] for of_run in part.drawn]) for n in range(len(part.numbers))]
        return cls(part.rows, part.users, values, np.stack(drawn))

    @classmethod
    def mean(cls, several: Sequence["_Values"]) -> "_Values":
        """Of several, each counting the same."""
        users = np.unique(np.concatenate([each.users for each in several]))
        values, drawn = ([getattr(each, name) for each in several] for name in ("values", "drawn"))
        return cls(sum(each.rows for each in several), users, np.mean(values, axis=0), np.mean(drawn, axis=0))


def differences(
    surfaces: Sequence[Surface], metrics: Mapping[str, Sequence[Metric]], arms: Sequence[Arm], seed: int
) -> list[dict[str, Any]]:
    """The difference of each other arm to the first, per domain, task, slice and metric.

    Args:
        surfaces: drawn.
        metrics: task -> what it is measured by.
        arms: whose runs the surfaces' numbers are of, in order.
        seed: of the draws.

    Returns:
        Rows with ``arm``, ``task``, ``domain``, ``slice``, ``metric``, ``rows``, ``users``, ``first`` and ``other`` (means over seeds),
        ``difference`` (other - first), ``low`` and ``high`` (its 95 % interval; None: there is none), ``verdict``, and ``paired``, whether
        the arms' seeds go together. Domain ``mean`` is over domains, task ``mean`` over domains and binary tasks.
    """
    bounds = np.cumsum([0, *(len(arm.runs) for arm in arms)])
    out = []
    for (task, domain, part), metric, found in _every(surfaces, metrics):
        for n, arm in enumerate(arms[1:], 1):
            sides = [slice(bounds[of], bounds[of + 1]) for of in (0, n)]
            one, two = (found.values[side].mean() for side in sides)
            if not np.isfinite(two - one):
                continue
            paired = arm.goes_with(arms[0])
            drawn = [found.drawn[side] for side in sides]
            low, high = interval_of_difference(drawn[1], drawn[0], len(found.users), paired, seed)
            verdict = UNDECIDED
            if low > 0 or high < 0:
                verdict = BETTER if (low > 0) == metric.higher_is_better else WORSE
            out.append(
                {
                    "arm": arm.name,
                    "task": task,
                    "domain": domain,
                    "slice": part,
                    "metric": metric.key,
                    "rows": found.rows,
                    "users": len(found.users),
                    "first": float(one),
                    "other": float(two),
                    "difference": float(two - one),
                    "low": defined(low),
                    "high": defined(high),
                    "verdict": verdict,
                    "paired": paired,
                }
            )
    return out


def _every(
    surfaces: Sequence[Surface], metrics: Mapping[str, Sequence[Metric]]
) -> Iterator[tuple[tuple[str, str, str], Metric, _Values]]:
    """Task, domain and slice of each number there is, the metric, and its values; of each surface, then of their means."""
    tasks = list(dict.fromkeys(surface.task for surface in surfaces))
    of_all: dict[tuple[str, str], list[_Values]] = {}
    by_key: dict[str, Metric] = {}
    for task in tasks:
        of_task: dict[tuple[str, str], list[_Values]] = {}
        of_this = {metric.key: metric for metric in metrics[task]}
        for surface in surfaces:
            if surface.task != task:
                continue
            for name, part in surface.parts.items():
                for key, metric in of_this.items():
                    if all(key in of_run for of_run in part.numbers):
                        found = _Values.of(part, key)
                        yield (task, surface.domain, name), metric, found
                        if np.isfinite(found.values).all():
                            of_task.setdefault((name, key), []).append(found)
        for (name, key), several in of_task.items():
            if len(several) > 1:
                yield (task, MEAN, name), of_this[key], _Values.mean(several)
            if task != NEXT_ITEM and of_this.keys() >= {"auc"}:  # other kinds have units of their own
                of_all.setdefault((name, key), []).extend(several)
                by_key |= of_this
    binary = [task for task in tasks if task != NEXT_ITEM and any(metric.key == "auc" for metric in metrics[task])]
    if len(binary) > 1:
        for (name, key), several in of_all.items():
            if len(several) > 1:
                yield (MEAN, MEAN, name), by_key[key], _Values.mean(several)
