"""Metrics of parts of the rows: warm and cold, by how often an item was seen in training; and their means."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ...data.config.sections.task import Array, Measures, Task
from ...model.tasks.metrics import defined
from ...model.tasks.spread import ALONE, Spread, total

SEEN: dict[str, tuple[float, float]] = {
    "items_seen_1_to_4": (1, 5),
    "items_seen_5_to_19": (5, 20),
    "items_seen_20_to_99": (20, 100),
    "items_seen_100_or_more": (100, float("inf")),
}
"""Slice -> how often its items were seen in training: at least, and below."""
_BANDS = {"1_to_4": (1, 5), "5_to_19": (5, 20), "20_or_more": (20, float("inf"))}
_PLURALS = {"user": "users", "query": "queries"}


def slices_by_count(counts: Mapping[str, Array]) -> dict[str, Array]:
    """Slice -> ``[N]`` bool: ``all``; ``warm_items``; ``cold_items``, ``cold_users`` and ``cold_queries``, whose id was never seen in training;
    and by how often it was, `SEEN` for items, ``users_seen_1_to_4``, ``_5_to_19`` and ``_20_or_more`` for users, and for queries too.

    Args:
        counts: entity, ``item`` at least -> ``[N]`` times the row's was seen in training; -1: no id in this row, which is in ``all`` only.
    """
    items = counts["item"]
    slices = {"all": np.ones(len(items), bool), "warm_items": items > 0, "cold_items": items == 0}
    others = {_PLURALS[entity]: seen for entity, seen in counts.items() if entity in _PLURALS}
    slices |= {f"cold_{name}": seen == 0 for name, seen in others.items()}
    slices |= {name: (items >= least) & (items < below) for name, (least, below) in SEEN.items()}
    for name, seen in others.items():
        slices |= {f"{name}_seen_{band}": (seen >= least) & (seen < below) for band, (least, below) in _BANDS.items()}
    return slices


def slice_rows(
    domain: str,
    name: str,
    task: Task,
    labels: Array,
    scores: Array,
    *,
    counts: Mapping[str, Array],
    user_groups: Array | None = None,
    list_groups: Array | None = None,
    in_list: Array | None = None,
    oracle: Array | None = None,
    popularity: Array | None = None,
    weights: Array | None = None,
    further: Mapping[str, Array] = MappingProxyType({}),
    spread: Spread = ALONE,
) -> list[dict[str, Any]]:
    """The metrics of one domain and task, per slice of the rows.

    Slices are those of `slices_by_count`, and ``further`` ones. Inside one, groups hold the slice's rows alone. One without rows is left out.

    Args:
        domain: its name.
        name: of the task.
        task: what it is measured by.
        labels: ``[N]``.
        scores: ``[N]`` float, the model's; NaN where no number came out. Such rows are in no metric.
        counts: as of `slices_by_count`.
        user_groups: ``[N]`` int64 or uint64, the user of each row.
        list_groups: ``[N]`` int64 or uint64, the result list of each row.
        in_list: ``[N]`` bool, whether the row is in a list; None: all are.
        oracle: ``[N]`` the label's true expectation, where a simulation knows it; NaN where it is missing.
        popularity: ``[N]`` the popularity baseline's score.
        weights: ``[N]`` how much each row counts in metrics and headlines; None: all alike.
        further: slice -> ``[N]`` bool.
        spread: how the rows are spread over ranks, of a task that can be measured so: each gives its own, and all get the numbers of all.

    Returns:
        One dict per slice: domain, task, slice, rows, with weights their sum as ``weight``, the task's metrics, overflowed (rows of
        which no number came out), and the headline that the true expectation and the baseline reach on the same rows, as ``oracle_auc`` and ``popularity_auc``; None
        where not given or not defined, as where a row of the slice has no true expectation.
    """
    rows, predicted, measures = [], np.isfinite(scores), task.measures
    slices = slices_by_count(counts) | dict(further)
    found = [[(of_slice & predicted).sum(), (of_slice & ~predicted).sum()] for of_slice in slices.values()]
    how_many = total(np.array(found, np.int64), spread).tolist()
    for (part, of_slice), (measured, overflowed) in zip(slices.items(), how_many, strict=True):
        if not measured and not overflowed:
            continue
        where = of_slice & predicted
        y = labels[where]
        user, result_list = _take(user_groups, where), _take(list_groups, where)
        listed = slice(None) if in_list is None else in_list[where]
        row: dict[str, Any] = {"domain": domain, "task": name, "slice": part, "rows": measured}
        more: dict[str, Any] = {} if spread is ALONE else {"spread": spread}
        if weights is not None:
            more["weights"] = weights[where]
            row["weight"] = float(total(weights[where].sum(dtype=np.float64), spread))
        row |= task.metrics(y, scores[where], user, result_list, listed, **more) | {"overflowed": overflowed}
        row[measures.oracle] = None if oracle is None else defined(task.headline(y, oracle[where], **more))
        row[measures.popularity] = None if popularity is None else defined(task.headline(y, popularity[where], **more))
        rows.append(row)
    return rows


def summary(
    rows: Iterable[Mapping[str, Any]], measured_by: Mapping[str, Measures]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Unweighted means over domains, for the slices ``all`` and ``cold_items`` of each task.

    All three means of a slice are over the same domains, those with a headline, so that they can be compared: the oracle's
    and the popularity baseline's are None unless every one of these domains has one.

    Args:
        rows: as `slice_rows` gives them, of any number of domains and tasks.
        measured_by: task -> what it is measured by.

    Returns:
        task -> slice -> {"domains": how many, and the headlines under the names they have in ``rows``: "auc", "oracle_auc",
        "popularity_auc"}; a slice that has a headline in no domain is left out.
    """
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        if row["slice"] in ("all", "cold_items") and row.get(measured_by[row["task"]].headline.key) is not None:
            found.setdefault(row["task"], {}).setdefault(row["slice"], []).append(row)
    return {
        task: {name: {"domains": len(members)} | _means(members, measured_by[task]) for name, members in slices.items()}
        for task, slices in found.items()
    }


def _means(members: list[Mapping[str, Any]], measures: Measures) -> dict[str, Any]:
    keys = (measures.headline.key, measures.oracle, measures.popularity)
    return {key: _mean_of([row.get(key) for row in members]) for key in keys}


def _take(column: Array | None, where: Array | slice) -> Array | None:
    return None if column is None else column[where]


def _mean_of(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
