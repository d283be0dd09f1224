"""What the item catalog says of items that are no row's own: past ones, and candidates."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..arrow.values import Ragged, offsets_of, take_ragged
from ..features.feature import FeatureColumns
from ..schema.layout import Layout


@dataclass(frozen=True)
class Described:
    """K items.

    Attributes:
        lookups: feature key -> ragged table rows, for ``layout.past_features``.
        dense: ``[K, d]`` float32, for ``layout.past_dense``.
        present: ``[K]`` bool, whether there is anything of an item; a missing number is not told from the mean, 0.
    """

    lookups: Mapping[str, Ragged]
    dense: np.ndarray
    present: np.ndarray


@dataclass(frozen=True)
class ItemFeatures:
    """The features of past items, per row of the catalog.

    Attributes:
        lookups: feature key -> ragged table rows; of a categorical one at most one each.
        dense: ``[catalog rows, d]`` float32.
    """

    lookups: Mapping[str, Ragged]
    dense: np.ndarray

    @classmethod
    def of(cls, layout: Layout, columns: FeatureColumns, rows: int) -> "ItemFeatures | None":
        """Picks what the layout names from a catalog's columns; None where it names nothing."""
        if not layout.past_features and not layout.past_dense:
            return None
        lists, singles = columns.lists, columns.singles
        lookups = {key: lists[key] if key in lists else _at_most_one(singles[key]) for key in layout.past_features}
        dense = [columns.dense[layout.dense[column]] for column in layout.past_dense]
        return cls(lookups, np.stack(dense, 1) if dense else np.zeros((rows, 0), np.float32))

    def at(self, rows: np.ndarray) -> Described:
        """Of the items in these rows ``[K]`` of the catalog; -1 is an item that is not in it."""
        lookups = {key: take_ragged(*ragged, rows) for key, ragged in self.lookups.items()}
        dense = np.where((rows >= 0)[:, None], self.dense[np.maximum(rows, 0)], np.float32(0))
        present = (dense != 0).any(1)
        for _, offsets in lookups.values():
            present |= np.diff(offsets) > 0
        return Described(lookups, dense, present)


def undescribed(items: int) -> Described:
    """So many items of which no feature has a part."""
    return Described({}, np.zeros((items, 0), np.float32), np.zeros(items, bool))


def _at_most_one(values: np.ndarray) -> Ragged:
    there = values >= 0
    return values[there], offsets_of(there)
