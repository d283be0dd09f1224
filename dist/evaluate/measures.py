"""What the tasks of an evaluation are measured by, written beside its numbers: who shows them needs to know no kind."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...data.config.sections.task import Measures
from ...data.schema.layout import Layout
from ...model.tasks.binary import MEASURES


def measures_of(layout: Layout) -> dict[str, Any]:
    """Task -> its `Measures` as JSON."""
    return {
        name: kind.measures.model_dump(mode="json") for name, kind in zip(layout.tasks, layout.task_kinds, strict=True)
    }


def mean_validation(found: Iterable[tuple[float, float] | None]) -> float | None:
    """The weighted mean of what `Task.validation` gives, of the rows that have a number; None where none has."""
    known = [each for each in found if each is not None]
    if not known:
        return None
    values, weights = zip(*known, strict=True)
    return float(np.average(values, weights=weights))


def measured_by(document: Mapping[str, Any]) -> dict[str, Measures]:
    """Task -> what it is measured by, of the tasks that ``evaluation.json`` or ``validation.json`` has rows of.

    Where it does not say, it is of an older version, whose tasks were all binary.
    """
    told = document.get("tasks", {})
    names = dict.fromkeys(row["task"] for row in document.get("rows", []))
    return {name: Measures.model_validate(told[name]) if name in told else MEASURES for name in names}
