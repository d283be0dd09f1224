"""The popularity baseline: an item's smoothed mean label in training (its positive rate), per domain and task.

What a model has to beat. It knows nothing of the user, and nothing of an item it never saw.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ...data.arrow.column_types import LABELS, WEIGHT
from ...data.arrow.ids import id_keys
from ...data.batch.row_encoder import RowEncoder
from ...data.config.experiment import Experiment
from ...data.events.bad_rows import read_good_rows
from ...data.events.event_files import EventFiles
from ...data.schema.column_needs import needed_columns
from ...data.schema.labels import read_labels, read_weights
from ...data.schema.layout import id_key
from ..ranks.runtime import Runtime

STRENGTH = 10.0


class PopularityCounts:
    """Rows of each item and the sum of their labels, collected chunk by chunk.

    An item's score is ``(sum + 10 * mean) / (rows + 10)`` with ``mean`` that of the domain's labels of the task, so an item
    never seen gets the mean itself. Row 0 stands for every unknown item and gets the mean as well.

    Args:
        size: rows of the item table.
        n_domains: number of domains.
        n_tasks: number of tasks.

    Attributes:
        counts: ``[n_domains, n_tasks, 2, size]`` float64, rows and sums of labels. Counts of several ranks add up.
    """

    def __init__(self, size: int, n_domains: int, n_tasks: int):
        # Zeroed memory is only committed once written to: a pair of domain and task that does not exist costs nothing.
        self.counts = np.zeros((n_domains, n_tasks, 2, size))

    def add(self, domain: int, task: int, rows: NDArray[np.int64], labels: NDArray) -> None:
        """Counts labelled events of one domain and task.

        Args:
            domain: position of the domain.
            task: position of the task.
            rows: ``[N]`` int64 row of each event's item in the item table.
            labels: ``[N]``.

        Raises:
            ValueError: the lengths differ, or a row is outside the table.
        """
        seen, sums = self.counts[domain, task]
        if len(rows) != len(labels):
            raise ValueError(f"{len(rows)} rows with {len(labels)} labels")
        if len(rows) and (rows.min() < 0 or rows.max() >= len(seen)):
            raise ValueError(f"item rows {rows.min()} to {rows.max()} do not fit a table of {len(seen)} rows")
        np.add.at(seen, rows, 1)
        np.add.at(sums, rows, labels)

    def scores(self, domain: int, task: int) -> NDArray[np.float32]:
        """``[size]`` float32 score of every item in one domain and task; all 0 when it has no events."""
        seen, sums = self.counts[domain, task]
        total = seen.sum()
        mean = sums.sum() / total if total else 0.0
        scores = ((sums + STRENGTH * mean) / (seen + STRENGTH)).astype(np.float32)
        scores[0] = mean
        return scores


def popularity_counts(
    experiment: Experiment,
    encoder: RowEncoder,
    events: Mapping[str, Mapping[str, EventFiles]],
    runtime: Runtime,
    progress: Callable[[int], None] = lambda rows: None,
) -> PopularityCounts:
    """Counts the training events, each rank some of the row groups; ``progress`` is told of the rows of all ranks."""
    layout = encoder.layout
    items = encoder.statistics.tables[id_key("item")]
    counts = PopularityCounts(items.rows, len(layout.domains), len(layout.tasks))
    for d, name in enumerate(layout.domains):
        files, tasks = events[name]["train"], experiment.domains[name].tasks
        needs = needed_columns(experiment, name)
        columns = [experiment.entities.item.id, *(need.name for need in needs if need.holds in (*LABELS, WEIGHT))]
        for path, group in files.row_groups[runtime.rank :: runtime.world_size]:
            table = read_good_rows(path, group, needs, columns, experiment.bad_data)
            keys, has_item = id_keys(table[experiment.entities.item.id])
            rows = np.where(has_item, items.lookup(keys), 0)  # without an item they count for the domain's rate alone
            for task_name in tasks:
                labels = read_labels(experiment.domains[name], task_name, table)
                known = ~np.isnan(labels)
                if (weights := read_weights(experiment.domains[name], task_name, table)) is not None:
                    known &= weights > 0
                counts.add(d, layout.tasks.index(task_name), rows[known], labels[known])
            progress(table.num_rows * runtime.world_size)
    counts.counts = runtime.sum(torch.from_numpy(counts.counts)).numpy()
    return counts


def popularity(rows: NDArray[np.int64], labels: NDArray, size: int) -> NDArray[np.float32]:
    """Scores of one domain and task from events held in memory; see `PopularityCounts`.

    Args:
        rows: ``[N]`` int64 row of each event's item in the item table.
        labels: ``[N]``.
        size: rows of the item table.

    Returns:
        ``[size]`` float32.

    Raises:
        ValueError: the lengths differ, or a row is outside the table.
    """
    counts = PopularityCounts(size, n_domains=1, n_tasks=1)
    counts.add(0, 0, rows, labels)
    return counts.scores(0, 0)
