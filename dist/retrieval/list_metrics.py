"""What lists are worth as lists: how far apart their items are, how new, how popular, and how many items anybody is shown."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...model.tasks.spread import Spread, ranges
from .lists import LISTED

LIST_METRICS = {
    f"distance@{LISTED}": "distance",
    f"novelty@{LISTED}": "novelty",
    f"listed_popularity@{LISTED}": "popularity",
    "past_popularity": "past_popularity",
}
"""What a mean over rows is called -> the column of `ListTeller`."""
CATALOG_METRICS = (f"coverage@{LISTED}", f"gini@{LISTED}")
"""Those that are of all lists together."""

_STEPS = 1 << 24


def list_counts(columns: Mapping[str, NDArray], inside: NDArray[np.bool_]) -> list[int]:
    """Of rows that are ``inside [N]``, how many have each number, and their sum in whole multiples of 2^-24, whose sums over ranks are exact."""
    out = []
    for name in LIST_METRICS.values() if "listed" in columns else ():
        values = columns[name][inside]
        known = values[~np.isnan(values)]
        out += [len(known), int(np.rint(known * _STEPS).astype(np.int64).sum())]
    return out


def list_means(counts: list[int]) -> dict[str, float | None]:
    """Metric -> mean, of the sums of `list_counts`; None of no rows. Empty where there are no lists."""
    pairs = zip(LIST_METRICS, zip(counts[::2], counts[1::2], strict=True), strict=False)
    return {metric: sums / _STEPS / rows if rows else None for metric, (rows, sums) in pairs}


def catalog_metrics(listed: NDArray[np.int32], items: int, spread: Spread) -> dict[str, Any]:
    """Of the lists of all ranks, the share of the items that are in anybody's, and how unequally items are shown: Gini's index, 0 where
    all are in as many lists, nearly 1 where all lists are of the same few. A collective; None of no lists.

    Args:
        listed: ``[N, K]`` of this rank, positions of items; -1 for none.
        items: how many could be.
        spread: how rows are spread.
    """
    keys, shown = np.unique(listed[listed >= 0], return_counts=True)
    (_, shown), _ = ranges(keys, shown, spread=spread)
    many: dict[int, int] = {}
    for values, of_each in spread.told(np.unique(shown, return_counts=True)):
        for value, count in zip(values.tolist(), of_each.tolist(), strict=True):
            many[int(value)] = many.get(int(value), 0) + int(count)
    distinct, every = sum(many.values()), sum(value * count for value, count in many.items())
    if not every:
        return dict.fromkeys(CATALOG_METRICS)
    behind, above = items - distinct, 0
    for value in sorted(many):
        above += value * many[value] * (2 * behind + many[value] - items)
        behind += many[value]
    return dict(zip(CATALOG_METRICS, (distinct / items, above / (items * every)), strict=True))
