"""Encoded rows of one domain: NumPy columns, ready to be picked from and put into a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .values import Ragged, take_ragged


@dataclass
class Rows:
    """N rows of one domain.

    Attributes:
        domain: position of the domain.
        singles: ``[N, singles]`` int64 table rows of the single-id keys; -1 where the id is missing.
        lists: key -> ragged table rows, for every list key.
        dense: ``[N, dense]`` float32.
        vectors: name -> ``[N, size]`` float32, vectors that are columns of the events or of a catalog.
        vector_present: name -> ``[N]`` bool, same names.
        text_rows: entity -> ``[N]`` int64 rows of its text store; -1 where it has no text.
        history_text: ragged rows of the item text store, or None.
        id_counts: ``[N, entities]`` float32.
        labels: ``[N, tasks]`` float32.
        label_mask: ``[N, tasks]`` bool.
        host: further columns ``[N]`` for metrics.
    """

    domain: int
    singles: np.ndarray
    lists: dict[str, Ragged]
    dense: np.ndarray
    vectors: dict[str, np.ndarray]
    vector_present: dict[str, np.ndarray]
    text_rows: dict[str, np.ndarray]
    history_text: Ragged | None
    id_counts: np.ndarray
    labels: np.ndarray
    label_mask: np.ndarray
    host: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.singles)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        arrays = [self.singles, self.dense, self.id_counts, self.labels, self.label_mask]
        for group in (self.vectors, self.vector_present, self.text_rows, self.host):
            arrays += group.values()
        for ragged in (*self.lists.values(), *([self.history_text] if self.history_text else [])):
            arrays += ragged
        return sum(a.nbytes for a in arrays)

    def take(self, at: np.ndarray | slice) -> "Rows":
        """The rows at the given positions, in that order."""
        if isinstance(at, slice):
            at = np.arange(*at.indices(len(self)))
        pick = {name: values[at] for name, values in self.vectors.items()}
        return Rows(
            domain=self.domain,
            singles=self.singles[at],
            lists={key: take_ragged(*ragged, at) for key, ragged in self.lists.items()},
            dense=self.dense[at],
            vectors=pick,
            vector_present={name: values[at] for name, values in self.vector_present.items()},
            text_rows={name: values[at] for name, values in self.text_rows.items()},
            history_text=None if self.history_text is None else take_ragged(*self.history_text, at),
            id_counts=self.id_counts[at],
            labels=self.labels[at],
            label_mask=self.label_mask[at],
            host={name: values[at] for name, values in self.host.items()},
        )


def concatenate(parts: Sequence[Rows]) -> Rows:
    """Several pieces one after another; ``host`` keeps the columns all of them have."""
    first = parts[0]
    if len(parts) == 1:
        return first

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(p, name) for p in parts])

    def joined_each(name: str) -> dict[str, np.ndarray]:
        common = [k for k in getattr(first, name) if all(k in getattr(p, name) for p in parts)]
        return {k: np.concatenate([getattr(p, name)[k] for p in parts]) for k in common}

    return Rows(
        domain=first.domain,
        singles=joined("singles"),
        lists={key: join_ragged([p.lists[key] for p in parts]) for key in first.lists},
        dense=joined("dense"),
        vectors=joined_each("vectors"),
        vector_present=joined_each("vector_present"),
        text_rows=joined_each("text_rows"),
        history_text=join_ragged([p.history_text for p in parts if p.history_text is not None])
        if first.history_text is not None
        else None,
        id_counts=joined("id_counts"),
        labels=joined("labels"),
        label_mask=joined("label_mask"),
        host=joined_each("host"),
    )


def join_ragged(parts: Sequence[Ragged]) -> Ragged:
    """Ragged arrays one after another."""
    values = np.concatenate([values for values, _ in parts])
    lengths = np.concatenate([np.diff(offsets) for _, offsets in parts])
    return values, np.concatenate([[0], np.cumsum(lengths)])
