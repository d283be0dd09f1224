"""What is compared of some rows: numbers of an evaluation, and the same under other weights of users."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data.config.sections.task import Metric, Task
from ...model.tasks.binary import Binary
from ...model.tasks.group_metrics import RANKING_K, group_aucs, group_ndcgs, means_of_aucs, ndcg_at_k
from ...model.tasks.metrics import CLIP, auc, logloss
from .resampling import AucOfUsers, OfRows, OfSums, Statistic

RANKED = (
    Metric(key="hr@10", title="HR@10"),
    Metric(key="ndcg@10", title="NDCG@10"),
    Metric(key="percentile", title="percentile"),
)
_PLACES = 10


@dataclass(frozen=True)
class Number:
    """A number of some rows.

    Attributes:
        value: as an evaluation has it; NaN where it is not defined.
        under: the same under weights of users.
    """

    value: float
    under: Statistic


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one domain and task, but for the scores.

    Attributes:
        task: what it is.
        labels: ``[N]``.
        of_row: ``[N]`` int64 below ``users``: who is drawn with all rows, the user, the list where no user is known, or the row.
        users: how many there are to draw from.
        groups: ``[N]`` keys of users, as of `group_metrics.apart`; None in a domain that knows none.
        lists: ``[N]`` keys of result lists; None where there are none.
        in_list: ``[N]`` bool.
        weights: ``[N]`` of rows in metrics; None: all alike.
    """

    task: Task
    labels: NDArray
    of_row: NDArray[np.int64]
    users: int
    groups: NDArray | None = None
    lists: NDArray | None = None
    in_list: NDArray | None = None
    weights: NDArray | None = None

    def take(self, at: NDArray) -> "LabelledRows":
        """The rows at positions, or where a mask says so."""

        def of(column: NDArray | None) -> NDArray | None:
            return None if column is None else column[at]

        columns = (of(self.groups), of(self.lists), of(self.in_list), of(self.weights))
        return LabelledRows(self.task, self.labels[at], self.of_row[at], self.users, *columns)


def measured(task: Task) -> list[Metric]:
    """What runs are compared by: AUC, GAUC, UAUC, NDCG and log loss of binary tasks, the headline of others."""
    if isinstance(task, Binary):
        by_key = {metric.key: metric for metric in (task.measures.headline, *task.measures.others)}
        return [by_key[key] for key in ("auc", "gauc", "uauc", f"ndcg@{RANKING_K}", "logloss")]
    headline = task.measures.headline
    return [headline.model_copy(update={"higher_is_better": task.measures.higher_is_better})]


def numbers(rows: LabelledRows, scores: NDArray) -> dict[str, Number]:
    """What ``measured`` names -> of rows with these scores ``[N]``, all finite; those without users or lists are left out."""
    labels, weights, task = rows.labels, rows.weights, rows.task
    if not isinstance(task, Binary):
        under = OfRows(task.headline, rows.of_row, (labels, scores), weights, task.weighted)
        value = task.headline(labels, scores) if weights is None else task.headline(labels, scores, weights)
        return {task.measures.headline.key: Number(value, under)}
    out = {"auc": Number(auc(labels, scores, weights), AucOfUsers(labels, scores, rows.of_row, weights))}
    each = np.ones(len(labels)) if weights is None else weights
    if rows.groups is not None:
        found, counts = group_aucs(labels, scores, rows.groups, weights)
        for key, value, weighs in zip(
            ("gauc", "uauc"), means_of_aucs(found, counts), (counts, np.ones(len(found))), strict=True
        ):
            out[key] = Number(value, _mean_of_groups(rows, rows.groups, rows.of_row, found, weighs))
    if rows.lists is not None:
        at = np.ones(len(labels), bool) if rows.in_list is None else rows.in_list
        listed = labels[at], scores[at], rows.lists[at]
        of_lists = None if weights is None else weights[at]
        found, counts = group_ndcgs(*listed, weights=of_lists)
        under = _mean_of_groups(rows, rows.lists[at], rows.of_row[at], found, counts)
        out[f"ndcg@{RANKING_K}"] = Number(ndcg_at_k(*listed, weights=of_lists), under)
    likely = np.clip(np.asarray(scores, np.float64), CLIP, 1 - CLIP)
    losses = -np.log(np.where(labels > 0, likely, 1 - likely))
    out["logloss"] = Number(logloss(labels, scores, weights), OfSums(rows.users, rows.of_row, (losses * each, each)))
    return out


def numbers_of_ranks(ranks: NDArray, percentiles: NDArray, of_row: NDArray, users: int) -> dict[str, Number]:
    """Hit rate and NDCG at 10 of rows whose item is at ``ranks [N]``, 0 being the first place, and the mean of ``percentiles [N]``."""
    hit = ranks < _PLACES
    found = {"hr@10": hit.astype(np.float64), "ndcg@10": hit / np.log2(ranks + 2), "percentile": percentiles}
    every = np.ones(len(ranks))
    return {key: Number(float(each.mean()), OfSums(users, of_row, (each, every))) for key, each in found.items()}


def _mean_of_groups(rows: LabelledRows, groups: NDArray, of_row: NDArray, found: NDArray, counts: NDArray) -> Statistic:
    """The mean over groups ``[G]`` in their rising order, with weights, of those where it is defined; all rows of a group are drawn together."""
    _, first = np.unique(groups, return_index=True)
    there = ~np.isnan(found)
    of_group, values, weighs = of_row[first][there], found[there], np.asarray(counts, np.float64)[there]
    return OfSums(rows.users, of_group, (values * weighs, weighs))
