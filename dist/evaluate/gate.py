"""Metrics that a model must reach: what ``foundrank evaluate --fail-below`` asks for."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...data.config.experiment import Experiment
from ...data.errors import UserError, nearest
from ..retrieval.protocol import NEXT_ITEM

_OF_NEXT_ITEM = (
    "hr@5",
    "hr@10",
    "hr@20",
    "ndcg@10",
    "mrr@10",
    "percentile",
    "distance@10",
    "coverage@10",
    "novelty@10",
)


class Gate(NamedTuple):
    """One metric and the least that it must be, in each of some domains.

    Attributes:
        asked: as the user wrote it.
        domains: where it must be reached.
        task: whose metric it is; `NEXT_ITEM` for that objective.
        metric: what it is called in ``evaluation.json``.
        least: the least it may be.
    """

    asked: str
    domains: tuple[str, ...]
    task: str
    metric: str
    least: float


def read_gates(asked: Sequence[str], experiment: Experiment, split: str) -> tuple[Gate, ...]:
    """The gates that ``TASK.METRIC=VALUE`` and ``DOMAIN.TASK.METRIC=VALUE`` stand for.

    Raises:
        UserError: one is of another form, or names what this split of the experiment does not measure.
    """
    return tuple(_gate(text, experiment, split) for text in asked)


def fallen_short(gates: Sequence[Gate], result: Mapping[str, Any]) -> list[str]:
    """What an evaluation does not reach, in words; a metric that could not be computed reaches nothing."""
    told = []
    for gate in gates:
        rows = result.get("next_item", []) if gate.task == NEXT_ITEM else result["rows"]
        found = {
            row["domain"]: row.get(gate.metric)
            for row in rows
            if row["slice"] == "all" and row.get("task", NEXT_ITEM) == gate.task
        }
        for domain in gate.domains:
            value = found.get(domain)
            if value is None or not value >= gate.least:
                is_now = "could not be computed" if value is None else f"is {value:.6g}"
                told.append(f"--fail-below {gate.asked}: {domain}.{gate.task}.{gate.metric} {is_now}")
    return told


def _gate(text: str, experiment: Experiment, split: str) -> Gate:
    where = f"--fail-below {text}"
    name, equals, value = text.rpartition("=")
    whose, dot, metric = name.rpartition(".")
    try:
        least = float(value)
    except ValueError:
        least = math.nan
    if not (equals and dot and math.isfinite(least)):
        raise UserError(where, "is not TASK.METRIC=VALUE", "Write e.g. --fail-below click.auc=0.70")
    measured = _measured(experiment, split)
    if whose not in measured:
        raise UserError(where, f"'{whose}' is no task that the {split} split measures", nearest(whose, measured))
    task, domains = measured[whose]
    metrics = _metrics(experiment, task)
    if metric not in metrics:
        raise UserError(where, f"'{metric}' is no metric of {task}", nearest(metric, metrics))
    if not metrics[metric]:
        better = [name for name, higher in metrics.items() if higher]
        raise UserError(where, f"less of {metric} is better", f"Choose one of: {', '.join(better)}.")
    return Gate(text, domains, task, metric, least)


def _measured(experiment: Experiment, split: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """``TASK`` and ``DOMAIN.TASK`` -> the task, and the domains that have both it and events of the split."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for name, domain in experiment.domains.items():
        if getattr(domain.events, split) is None:
            continue
        of_history = [NEXT_ITEM] if experiment.model.next_item is not None else []
        for task in [*domain.tasks, *of_history]:
            found[task] = task, (*found.get(task, (task, ()))[1], name)
            found[f"{name}.{task}"] = task, (name,)
    return found


def _metrics(experiment: Experiment, task: str) -> dict[str, bool]:
    """Metric -> whether more of it is better."""
    if task == NEXT_ITEM:
        return dict.fromkeys(_OF_NEXT_ITEM, True)
    measures = next(domain.tasks[task].measures for domain in experiment.domains.values() if task in domain.tasks)
    headline = {measures.headline.key: measures.higher_is_better}
    return headline | {metric.key: metric.higher_is_better for metric in measures.others}
