"""The metrics of predictions that are spread over ranks: per domain, task and slice."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.batch.row_encoder import RowEncoder
from ...data.config.sections.task import Task
from ..exchange.exchange import each, exchange
from ..exchange.over_ranks import OverRanks
from ..ranks.runtime import Runtime
from .column_slices import ColumnSlices
from .popularity import PopularityCounts
from .slices import slice_rows

TOGETHER = 1 << 17
"""Of so few rows of a domain and task one rank computes everything: to talk about each number would take longer."""
_COUNTS, _FURTHER = "counts/", "further/"


def measured_rows(
    encoder: RowEncoder,
    columns: Mapping[str, NDArray],
    runtime: Runtime,
    popularity: PopularityCounts | None = None,
    slices: Sequence[ColumnSlices] = (),
    together: int = TOGETHER,
) -> list[dict[str, Any]]:
    """The metrics of all ranks' predictions. A collective.

    Rows of a domain and task stay where they are, but for what `Spread` moves; up to ``together`` of them, and those of a kind of task
    that can be measured on one rank alone, come to one rank, another one for the next task.

    Args:
        encoder: of the experiment.
        columns: of this rank, as of `predict`.
        runtime: the process group.
        popularity: the baseline's counts.
        slices: of this rank's rows.
        together: rows.

    Returns:
        On rank 0 rows as of `slice_rows`, of all domains and tasks in their order; elsewhere an empty list.
    """
    layout, domains = encoder.layout, encoder.experiment.domains
    every = [(d, name, task) for d, name in enumerate(layout.domains) for task in domains[name].tasks]
    found: dict[int, list[dict[str, Any]]] = {}
    owner = 0
    rows_here = [np.count_nonzero(_where(encoder, d, task, columns)) for d, _, task in every]
    rows_of_all = each(np.array(rows_here), runtime).sum(0)
    for at, ((d, name, task_name), rows) in enumerate(zip(every, rows_of_all, strict=True)):
        if not rows:
            continue
        task = domains[name].tasks[task_name]
        mine = _columns(encoder, d, task_name, columns, popularity, slices)
        if rows > together and task.spreads and runtime.world_size > 1:
            of_all = _measured(name, task_name, task, mine, spread=OverRanks(runtime))
            found |= {at: of_all} if runtime.is_main else {}
            continue
        target = np.full(len(mine["labels"]), owner % runtime.world_size)
        came, _ = exchange(list(mine.values()), target, runtime)
        if runtime.rank == owner % runtime.world_size:
            found[at] = _measured(name, task_name, task, dict(zip(mine, came, strict=True)))
        owner += 1
    everyone = {at: rows for of_rank in runtime.gather(found) for at, rows in of_rank.items()}
    return [row for at in sorted(everyone) for row in everyone[at]]


def _where(encoder: RowEncoder, d: int, task: str, columns: Mapping[str, NDArray]) -> NDArray[np.bool_]:
    return (columns["domain"] == d) & columns["mask"][:, encoder.layout.tasks.index(task)]


def _columns(
    encoder: RowEncoder,
    d: int,
    task: str,
    columns: Mapping[str, NDArray],
    popularity: PopularityCounts | None,
    slices: Sequence[ColumnSlices],
) -> dict[str, NDArray]:
    """What `slice_rows` takes of the rows of a domain and task, by name; the same names on every rank."""
    layout = encoder.layout
    t, domain = layout.tasks.index(task), encoder.experiment.domains[layout.domains[d]]
    where = _where(encoder, d, task, columns)
    out = {"labels": columns["labels"][where, t], "scores": columns["scores"][where, t]}
    out |= {"user_groups": columns["user"][where], "in_list": columns["list_known"][where]}
    if domain.list_column:
        out["list_groups"] = columns["list"][where]
    if f"oracle/{task}" in columns:
        out["oracle"] = columns[f"oracle/{task}"][where]
    if popularity is not None:
        out["popularity"] = popularity.scores(d, t)[columns["item"][where]]
    if domain.weighs_metrics_of(task):
        out["weights"] = columns["weights"][where, t]
    out |= {_COUNTS + entity: columns["counts"][where, at] for at, entity in enumerate(layout.entities)}
    return out | {_FURTHER + name: mask for column in slices for name, mask in column.masks(where).items()}


def _measured(
    domain: str, name: str, task: Task, columns: Mapping[str, NDArray], **spread: Any
) -> list[dict[str, Any]]:
    of_each = {name: column for name, column in columns.items() if not name.startswith((_COUNTS, _FURTHER))}
    counts, further = (
        {name.removeprefix(prefix): column for name, column in columns.items() if name.startswith(prefix)}
        for prefix in (_COUNTS, _FURTHER)
    )
    return slice_rows(domain, name, task, **of_each, counts=counts, further=further, **spread)
