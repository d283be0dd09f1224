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
        vectors: name, of ``layout.past_vectors`` -> the distinct ones ``[U, size]`` float32, and which of them an item has, ``[K]``
            int64; -1: none.
        present: ``[K]`` bool, whether there is anything of an item; a missing number is not told from the mean, 0.
    """

    lookups: Mapping[str, Ragged]
    dense: np.ndarray
    vectors: Mapping[str, tuple[np.ndarray, np.ndarray]]
    present: np.ndarray


@dataclass(frozen=True)
class ItemFeatures:
    """The features of past items, per row of the catalog.

    Attributes:
        lookups: feature key -> ragged table rows; of a categorical one at most one each.
        dense: ``[catalog rows, d]`` float32.
        vectors: name -> ``[catalog rows, size]`` float32, and ``[catalog rows]`` bool, where it is there.
    """

    lookups: Mapping[str, Ragged]
    dense: np.ndarray
    vectors: Mapping[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, layout: Layout, columns: FeatureColumns, rows: int) -> "ItemFeatures | None":
        """Picks what the layout names from a catalog's columns; None where it names nothing."""
        if not (layout.past_features or layout.past_dense or layout.past_vectors):
            return None
        lists, singles = columns.lists, columns.singles
        lookups = {key: lists[key] if key in lists else _at_most_one(singles[key]) for key in layout.past_features}
        dense = [columns.dense[layout.dense[column]] for column in layout.past_dense]
        vectors = {name: columns.vectors[name] for name in layout.past_vectors}
        return cls(lookups, np.stack(dense, 1) if dense else np.zeros((rows, 0), np.float32), vectors)

    def at(self, rows: np.ndarray) -> Described:
        """Of the items in these rows ``[K]`` of the catalog; -1 is an item that is not in it."""
        lookups = {key: take_ragged(*ragged, rows) for key, ragged in self.lookups.items()}
        dense = np.where((rows >= 0)[:, None], self.dense[np.maximum(rows, 0)], np.float32(0))
        present = (dense != 0).any(1)
        for _, offsets in lookups.values():
            present |= np.diff(offsets) > 0
        vectors = {name: _gathered(*of, rows) for name, of in self.vectors.items()}
        for _, at in vectors.values():
            present |= at >= 0
        return Described(lookups, dense, vectors, present)


def undescribed(items: int) -> Described:
    """So many items of which no feature has a part."""
    return Described({}, np.zeros((items, 0), np.float32), {}, np.zeros(items, bool))


def distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ones of rows ``[K]`` of some table, ascending, without -1; and where each is among them, ``[K]``; -1 for -1."""
    wanted, places = np.unique(np.concatenate([rows, [-1]]), return_inverse=True)
    return wanted[1:], places[:-1] - 1


def _gathered(values: np.ndarray, there: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wanted, at = distinct_rows(np.where((rows >= 0) & there[np.maximum(rows, 0)], rows, -1))
    return values[wanted], at


def _at_most_one(values: np.ndarray) -> Ragged:
    there = values >= 0
    return values[there], offsets_of(there)
