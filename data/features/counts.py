"""What the counting pass has found so far."""

from collections.abc import Mapping

import numpy as np

from ..arrow.moments import add_moments, mean_deviation, moments_of
from ..vocabulary.encoding import Encoded
from ..vocabulary.key_counts import KeyCounts, Table


class Counts:
    """Ids per embedding table, and moments per dense column, of values that come in parts."""

    def __init__(self):
        self.of_ids: dict[str, KeyCounts] = {}
        self._moments: dict[str, np.ndarray] = {}

    def ids(self, table: str, encoding: Encoded) -> KeyCounts:
        """The counts of a table's ids, to add to; none yet where it is new."""
        if table not in self.of_ids:
            self.of_ids[table] = encoding.ids.counts()
        return self.of_ids[table]

    def add_numbers(self, column: str, values: np.ndarray) -> None:
        """Adds ``[N]`` float64 to a column of numbers."""
        self.add_moments({column: moments_of(values)})

    def add_moments(self, moments: Mapping[str, np.ndarray]) -> None:
        """Adds columns of numbers as `take_moments` gave them."""
        for column, more in moments.items():
            self._moments[column] = add_moments(self._moments.get(column, np.zeros(3)), more)

    def take_moments(self) -> dict[str, np.ndarray]:
        """Dense column -> moments, as of `moments_of`; it begins anew."""
        taken, self._moments = self._moments, {}
        return taken

    def tables(self) -> dict[str, Table]:
        """Embedding table -> its ids."""
        return {name: counts.table() for name, counts in self.of_ids.items()}

    def dense(self) -> dict[str, tuple[float, float]]:
        """Dense column -> mean and deviation."""
        return {name: mean_deviation(moments) for name, moments in self._moments.items()}
