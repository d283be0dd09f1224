"""What the counting pass has found so far."""

import numpy as np

from ..arrow.moments import add_moments, mean_deviation
from ..vocabulary.encoding import Encoded
from ..vocabulary.key_counts import KeyCounts, Table


class Counts:
    """Ids per embedding table, and mean and deviation per dense column, of values that come in parts."""

    def __init__(self):
        self._ids: dict[str, KeyCounts] = {}
        self._moments: dict[str, np.ndarray] = {}

    def ids(self, table: str, encoding: Encoded) -> KeyCounts:
        """The counts of a table's ids, to add to; none yet where it is new."""
        if table not in self._ids:
            self._ids[table] = encoding.ids.counts()
        return self._ids[table]

    def add_numbers(self, column: str, values: np.ndarray) -> None:
        """Adds ``[N]`` float64 to a column of numbers."""
        self._moments[column] = add_moments(self._moments.get(column, np.zeros(3)), values)

    def tables(self) -> dict[str, Table]:
        """Embedding table -> its ids."""
        return {name: counts.table() for name, counts in self._ids.items()}

    def dense(self) -> dict[str, tuple[float, float]]:
        """Dense column -> mean and deviation."""
        return {name: mean_deviation(moments) for name, moments in self._moments.items()}
