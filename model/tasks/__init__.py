"""Kinds of tasks, one a file: from a label and a logit to loss, score and metrics; and the loss of all tasks together."""

from ...data.config.sections.task import Task
from .binary import Binary
from .count import Count
from .ordinal import Ordinal
from .regression import Regression
from .value import Value

TASKS: dict[str, type[Task]] = {
    "binary": Binary,
    "regression": Regression,
    "ordinal": Ordinal,
    "value": Value,
    "count": Count,
}
"""``kind`` of a task in the experiment -> its class."""
