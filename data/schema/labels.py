"""The labels of a domain's tasks and their weights, as everybody reads them: training, counting, metrics and the baseline."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..arrow.column_need import BadValues, ColumnNeed
from ..arrow.column_types import WEIGHT
from ..arrow.values import LARGEST, bad_numbers, floats
from ..config.sections.domains import DomainConfig


def _bad_weights(array: pa.Array) -> np.ndarray | None:
    """``[N]`` bool, True for what is no finite number from 0 up, and not null; None where all are good."""
    bad = floats(array) < 0
    if (no_numbers := bad_numbers(array)) is not None:
        bad |= no_numbers
    return bad if bad.any() else None


_WEIGHTS = BadValues(
    _bad_weights,
    "no finite number from 0 up",
    "Weights are from 0 up: 0 leaves the row out, and null stands for 1.",
    between=(0, LARGEST),
)


def weight_needs(name: str, domain: DomainConfig) -> list[ColumnNeed]:
    """The columns that hold weights of the labels of domain ``name``."""
    needs = []
    for task_name, task in domain.tasks.items():
        if column := domain.weight_of(task_name):
            of_task = f"domains.{name}.tasks.{task_name}" if task.sample_weight else f"domains.{name}"
            needs.append(ColumnNeed(column, WEIGHT, f"{of_task}.sample_weight", bad=_WEIGHTS))
    return list(dict.fromkeys(needs))


def read_labels(domain: DomainConfig, task: str, table: pa.Table) -> NDArray[np.float64]:
    """``[N]`` float64 labels of a task of a domain; NaN where a row has none.

    Of a task that is given another, they are of both events: 0 where the other's label is 0, the task's own where it is 1, and none
    where it has none.

    Args:
        domain: which has the task.
        task: its name.
        table: events of the domain, with the columns of all its labels.
    """
    own, parent = domain.tasks[task].label.read(table), domain.tasks[task].parent
    if parent is None:
        return own
    before = read_labels(domain, parent, table)
    return np.where(before > 0, own, before)


def read_weights(domain: DomainConfig, task: str, table: pa.Table) -> NDArray[np.float64] | None:
    """``[N]`` float64 weights of the labels that `read_labels` gives, 1 where null; None where all weigh 1. Arguments as there."""
    column = domain.weight_of(task)
    if column is None:
        return None
    weights = floats(table[column])
    return np.where(np.isnan(weights), 1.0, weights)
