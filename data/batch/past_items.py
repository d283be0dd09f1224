"""Past items one by one, and candidates for the next: what a batch carries for encoders of sequences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from ..schema.layout import HISTORY, Layout
from ..vocabulary.row_counts import RowCounts, seen
from .item_features import Described, distinct_rows
from .rows import Rows, join_histories, join_ragged


@dataclass
class Past:
    """The N past items of B rows, row after row and oldest first, and M candidates that belong to no row.

    Attributes:
        rows: ``[N]`` int64 rows of the item table; 0: never seen in training.
        at: ``[N]`` int64, place of each item in ``[B, L]``, where the newest item of every row is in the last column.
        lengths: ``[B]`` int64 items per row.
        counts: ``[N]`` float32, how often each was seen in training.
        item_rows: ``[B]`` int64 rows of the item table of the rows' own items; 0 for one never seen, or none.
        chosen: ``[B]`` bool, whether the rows' own items were taken, as of `Rows.chosen`.
        candidates: ``[M]`` int64 rows of the item table; they fill the bags of the candidate keys, key after key.
        candidate_counts: ``[M]`` float32.
        keys: ``[N]`` int64 with the bits of their ids' keys; empty where only the model is interested.
        ages: ``[N]`` int64 seconds from each past item to its row's event; zeros where times have no part.
        domains: ``[N]`` int64 positions of the domains they were in; -1 where that is unknown.
        dense: ``[N + M, d]`` float32, numbers that the catalog has of past items and candidates.
        described: ``[N + M]`` bool, whether features have a part in an item.
        vectors: name in ``Batch.vectors`` of a content or a vector feature of items -> ``[U, size]``, the distinct ones of past items
            and candidates.
        vector_at: same names -> ``[N + M]`` int64 positions among these; -1 where an item has none.
        longest: of ``lengths``, at least 1; stays on the host.
        trained_items: how many items were seen in training.
        trained_events: how often, all of them together.
        of_domain: ``[N + B + M, domains]`` bool, where candidates are those of a row's domain: of which domains past items and the rows' own
            are, and for which each candidate is one; None where all are candidates for all.
        domain_items: how many items of each domain were seen in training, and how often each of them on average; stays on the host.
    """

    rows: Tensor
    at: Tensor
    lengths: Tensor
    counts: Tensor
    item_rows: Tensor
    chosen: Tensor
    candidates: Tensor
    candidate_counts: Tensor
    keys: Tensor
    ages: Tensor
    domains: Tensor
    dense: Tensor
    described: Tensor
    vectors: dict[str, Tensor]
    vector_at: dict[str, Tensor]
    longest: int
    trained_items: int
    trained_events: int
    of_domain: Tensor | None = None
    domain_items: tuple[tuple[int, float], ...] = ()

    def tensors(self) -> list[Tensor]:
        """All but what stays on the host."""
        return [*self._single().values(), *self.vectors.values(), *self.vector_at.values()]

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Past":
        """With ``change`` applied to all tensors."""
        return replace(
            self,
            **{name: change(value) for name, value in self._single().items()},
            vectors={name: change(value) for name, value in self.vectors.items()},
            vector_at={name: change(value) for name, value in self.vector_at.items()},
        )

    def _single(self) -> dict[str, Tensor]:
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}


@dataclass(frozen=True)
class Items:
    """Items to choose from.

    Attributes:
        keys: ``[C]`` uint64 their ids' keys.
        rows: ``[C]`` int64 rows of the item table; 0 for one never seen in training.
        counts: ``[C]`` float32, how often each was seen there.
        content_rows: name of a content's vectors -> ``[C]`` int64 rows of its `ContentTable`; -1 for none.
        catalog_rows: ``[C]`` int64 rows of the catalog; -1 for an item that is not in it.
        of_domain: ``[C, domains]`` bool, for rows of which domains each is a candidate; None: of all.
    """

    keys: np.ndarray
    rows: np.ndarray
    counts: np.ndarray
    content_rows: Mapping[str, np.ndarray]
    catalog_rows: np.ndarray
    of_domain: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, at: np.ndarray) -> "Items":
        """Those at the given positions, or of a mask."""
        content_rows = {name: rows[at] for name, rows in self.content_rows.items()}
        of_domain = None if self.of_domain is None else self.of_domain[at]
        return Items(self.keys[at], self.rows[at], self.counts[at], content_rows, self.catalog_rows[at], of_domain)


@dataclass(frozen=True)
class ItemCounts:
    """How often items were seen in training.

    Attributes:
        by_row: ``[rows of the item table]`` int64, or of the rows that were seen.
        items: how many were seen at all.
        events: how often, all together.
        of_domain: ``[rows of the item table, domains]`` bool, which are of each domain; None where nobody asks.
        by_domain: of each domain, how many of its items were seen, and how often each on average.
    """

    by_row: np.ndarray | RowCounts
    items: int
    events: int
    of_domain: np.ndarray | None = None
    by_domain: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(cls, by_row: np.ndarray | RowCounts) -> "ItemCounts":
        """Of a table's counts."""
        rows, counts = seen(by_row)
        return cls(by_row, len(rows), int(counts.sum()))

    def in_domains(self, of_domain: np.ndarray) -> "ItemCounts":
        """The same, where ``[rows of the item table, domains]`` bool is known."""
        rows, counts = seen(self.by_row)
        of_each = [counts[there[rows]] for there in of_domain.T]
        by_domain = tuple((len(counts), float(counts.mean()) if len(counts) else 0.0) for counts in of_each)
        return replace(self, of_domain=of_domain, by_domain=by_domain)


_NO_ROWS = np.zeros(0, np.int64)
NONE = Items(np.zeros(0, np.uint64), _NO_ROWS, np.zeros(0, np.float32), {}, _NO_ROWS)

Draw = Callable[[int], Items]
"""The candidates of a step."""


def drawn(items: Items, layout: Layout, padded: int, everything: bool, key: Sequence[int]) -> Draw:
    """What draws the negatives of each step, evenly and with replacement, or takes all items there are.

    Where items are candidates for their domains alone, each domain draws as many, of its own and for itself.

    Args:
        items: to choose from.
        layout: of the batches.
        padded: P, bags per key.
        everything: takes each item once.
        key: of the random numbers; with the step they decide what is drawn.
    """
    size = layout.candidates * padded
    parts = [] if items.of_domain is None else [np.flatnonzero(there) for there in items.of_domain.T]
    some = [d for d, part in enumerate(parts) if len(part)]

    def draw(step: int) -> Items:
        if everything or not len(items):
            return items.take(np.arange(min(len(items), size)))
        random = np.random.default_rng((*key, step))
        if items.of_domain is None:
            return items.take(random.integers(0, len(items), size))
        of = np.repeat(some, np.diff(np.linspace(0, size, len(some) + 1).astype(np.int64)))
        at = np.concatenate([parts[d][random.integers(0, len(parts[d]), int((of == d).sum()))] for d in some])
        return replace(items.take(at), of_domain=of[:, None] == np.arange(len(parts)))

    return draw


def past_of(
    parts: Sequence[Rows],
    layout: Layout,
    counts: ItemCounts,
    content_vectors: Mapping[str, Tensor],
    item_at: int,
    candidates: Items,
    described: Described,
) -> Past:
    """The past items of a batch and its candidates.

    Args:
        parts: as of `assemble`, in its order.
        layout: of the batch, ``layout.past`` > 0.
        counts: of the item table.
        content_vectors: as of `assemble`.
        item_at: column of the row's own item in ``Rows.singles``.
        candidates: at most as many as there are bags for.
        described: features of past items, and of candidates behind them.
    """
    rows, offsets = join_ragged([part.lists[HISTORY] for part in parts])
    lengths = np.diff(offsets)
    ends = np.repeat(np.arange(1, len(lengths) + 1) * layout.past - offsets[1:], lengths)
    known = {name: values for name, (values, _) in join_histories([part.history for part in parts]).items()}
    vectors, vector_at = {}, {}
    for name in layout.past_contents:
        wanted, at = distinct_rows(np.concatenate([known[name], candidates.content_rows.get(name, _NO_ROWS)]))
        vectors[name], vector_at[name] = content_vectors[name][torch.from_numpy(wanted)], _long(at)
    for name, (distinct, at) in described.vectors.items():
        vectors[name], vector_at[name] = torch.from_numpy(distinct), _long(at)
    own = np.concatenate([part.singles[:, item_at] for part in parts])
    of_domain = None
    if counts.of_domain is not None and candidates.of_domain is not None:
        of_row = np.repeat([part.domain for part in parts], [len(part) for part in parts])
        found = np.concatenate([rows, np.maximum(own, 0)])
        seen_in = np.concatenate([np.repeat(of_row, lengths), of_row])
        # Nobody knows of which domains an item without a row is; it was seen in its row's.
        without_row = seen_in[:, None] == np.arange(len(layout.domains))
        there = np.where(found[:, None] > 0, counts.of_domain[found], without_row)
        of_domain = torch.from_numpy(np.concatenate([there, candidates.of_domain]))
    return Past(
        rows=_long(rows),
        at=_long(np.arange(len(rows)) + ends),
        lengths=_long(lengths),
        counts=torch.from_numpy(counts.by_row[rows].astype(np.float32)),
        item_rows=_long(np.maximum(own, 0)),
        chosen=torch.from_numpy(np.concatenate([part.chosen for part in parts])),
        candidates=_long(candidates.rows),
        candidate_counts=torch.from_numpy(candidates.counts.astype(np.float32)),
        keys=_long(known.get("keys", np.zeros(0))),
        ages=_long(known.get("ages", np.zeros(len(rows)))),
        domains=_long(known.get("domains", np.full(len(rows), -1))),
        dense=torch.from_numpy(described.dense),
        described=torch.from_numpy(described.present),
        vectors=vectors,
        vector_at=vector_at,
        longest=int(lengths.max(initial=1)),
        trained_items=counts.items,
        trained_events=counts.events,
        of_domain=of_domain,
        domain_items=counts.by_domain,
    )


def _long(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
