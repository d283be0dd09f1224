"""The popularity baseline: an item's smoothed mean label in training (its positive rate), per domain and task.

What a model has to beat. It knows nothing of the user, and nothing of an item it never saw.
"""

import numpy as np
from numpy.typing import NDArray

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
