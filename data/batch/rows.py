"""Encoded rows of one domain: NumPy columns, ready to be picked from and put into a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..arrow.values import Ragged, offsets_of, take_ragged


@dataclass
class Rows:
    """N rows of one domain.

    Attributes:
        domain: position of the domain.
        singles: ``[N, singles]`` int32 or int64 table rows of the single-id keys, column after column in memory; -1 where
            the id is missing.
        lists: key -> ragged table rows, for every list key.
        dense: ``[N, dense]`` float32.
        vectors: name -> ``[N, size]`` float32, vectors that are columns of the events or of a catalog.
        vector_present: name -> ``[N]`` bool, same names.
        content_rows: name of a content's vectors -> ``[N]`` int64 rows of its `ContentTable`; -1 where it has none.
        history: what is known of past items, ragged int64: by the name of a content's vectors, rows of its table, -1 for none
            (where the history is pooled, of those that have one); ``keys``, the bits of their id keys; ``catalog``, rows of the
            item catalog, -1 for none; ``ages``, seconds to their row's event; ``domains``, positions, -1 for unknown. What
            nobody looks at is not there.
        id_counts: ``[N, entities]`` float32.
        labels: ``[N, tasks]`` float32.
        label_mask: ``[N, tasks]`` bool.
        chosen: ``[N]`` bool, whether the row's item was taken: it has one, and its domain users, the row is not a bad one, and
            where its domain has tasks one of its labels says so, as of `Task.taken`. A label that is not there says nothing.
        weights: ``[N, tasks]`` float32 from 0 up, of the labels; None where all weigh 1.
        begins_list: ``[N]`` bool, whether a list begins with the row, where lists are read whole; else None.
        list_weights: key -> ragged float32, of each id of ``lists[key]``; of keys whose ids have weights.
        groups: of the rows' candidates, as of `groups.groups_of`; empty where nothing is learnt from any.
        host: further columns ``[N]`` for metrics.
    """

    domain: int
    singles: np.ndarray
    lists: dict[str, Ragged]
    dense: np.ndarray
    vectors: dict[str, np.ndarray]
    vector_present: dict[str, np.ndarray]
    content_rows: dict[str, np.ndarray]
    history: dict[str, Ragged]
    id_counts: np.ndarray
    labels: np.ndarray
    label_mask: np.ndarray
    chosen: np.ndarray
    weights: np.ndarray | None = None
    begins_list: np.ndarray | None = None
    list_weights: dict[str, Ragged] = field(default_factory=dict)
    groups: dict[str, Ragged] = field(default_factory=dict)
    host: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.singles)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        arrays = [self.singles, self.dense, self.id_counts, self.labels, self.label_mask, self.chosen]
        arrays += [] if self.weights is None else [self.weights]
        for group in (self.vectors, self.vector_present, self.content_rows, self.host):
            arrays += group.values()
        for ragged in (
            *self.lists.values(),
            *self.list_weights.values(),
            *self.history.values(),
            *self.groups.values(),
        ):
            arrays += ragged
        return sum(a.nbytes for a in arrays)

    def take(self, at: np.ndarray) -> "Rows":
        """The rows at the given positions, in that order, or those of a mask."""
        at = np.flatnonzero(at) if at.dtype == bool else at
        return self._map(lambda values: _take(values, at), lambda ragged: take_ragged(*ragged, at))

    def slice(self, start: int, stop: int) -> "Rows":
        """Rows ``start`` to ``stop``, in the memory where they are."""
        return self._map(lambda values: values[start:stop], lambda ragged: (ragged[0], ragged[1][start : stop + 1]))

    def _map(self, change: Callable[[np.ndarray], np.ndarray], change_ragged: Callable[[Ragged], Ragged]) -> "Rows":
        def each(group: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {name: change(values) for name, values in group.items()}

        def each_ragged(group: dict[str, Ragged]) -> dict[str, Ragged]:
            return {key: change_ragged(ragged) for key, ragged in group.items()}

        return Rows(
            domain=self.domain,
            singles=change(self.singles),
            lists=each_ragged(self.lists),
            list_weights=each_ragged(self.list_weights),
            dense=change(self.dense),
            vectors=each(self.vectors),
            vector_present=each(self.vector_present),
            content_rows=each(self.content_rows),
            history=each_ragged(self.history),
            groups=each_ragged(self.groups),
            id_counts=change(self.id_counts),
            labels=change(self.labels),
            label_mask=change(self.label_mask),
            chosen=change(self.chosen),
            weights=None if self.weights is None else change(self.weights),
            begins_list=None if self.begins_list is None else change(self.begins_list),
            host=each(self.host),
        )


def _take(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Rows of an array, in the memory order it has."""
    if values.ndim == 2 and values.flags.f_contiguous and not values.flags.c_contiguous:
        return values.T.take(at, axis=1).T
    return values.take(at, axis=0)


def concatenate(parts: Sequence[Rows]) -> Rows:
    """Several pieces one after another; ``host`` keeps the columns all of them have."""
    first = parts[0]
    if len(parts) == 1:
        return first

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(p, name) for p in parts])  # keeps the parts' memory order

    def joined_each(name: str) -> dict[str, np.ndarray]:
        common = [k for k in getattr(first, name) if all(k in getattr(p, name) for p in parts)]
        return {k: np.concatenate([getattr(p, name)[k] for p in parts]) for k in common}

    return Rows(
        domain=first.domain,
        singles=joined("singles"),
        lists={key: join_ragged([p.lists[key] for p in parts]) for key in first.lists},
        list_weights={key: join_ragged([p.list_weights[key] for p in parts]) for key in first.list_weights},
        dense=joined("dense"),
        vectors=joined_each("vectors"),
        vector_present=joined_each("vector_present"),
        content_rows=joined_each("content_rows"),
        history=join_histories([p.history for p in parts]),
        groups=join_histories([p.groups for p in parts]),
        id_counts=joined("id_counts"),
        labels=joined("labels"),
        label_mask=joined("label_mask"),
        chosen=joined("chosen"),
        weights=None if first.weights is None else joined("weights"),
        begins_list=None if first.begins_list is None else joined("begins_list"),
        host=joined_each("host"),
    )


def join_histories(parts: Sequence[dict[str, Ragged]]) -> dict[str, Ragged]:
    """What is known of past items, one part after another; a part that knows nothing of them has none."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: join_ragged([part[name] for part in parts if name in part]) for name in names}


def join_ragged(parts: Sequence[Ragged]) -> Ragged:
    """Ragged arrays one after another; the offsets of one that is part of another begin where it does."""
    values = np.concatenate([values[offsets[0] : offsets[-1]] for values, offsets in parts])
    return values, offsets_of(np.concatenate([np.diff(offsets) for _, offsets in parts]))
