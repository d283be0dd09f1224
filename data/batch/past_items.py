"""Past items one by one, and candidates for the next: what a batch carries for encoders of sequences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from ..schema.layout import HISTORY, Layout
from .item_features import Described
from .rows import Rows, join_histories, join_ragged


@dataclass
class Past:
    """The N past items of B rows, row after row and oldest first, and M candidates that belong to no row.

    Attributes:
        rows: ``[N]`` int64 rows of the item table; 0: never seen in training.
        at: ``[N]`` int64, place of each item in ``[B, L]``, where the newest item of every row is in the last column.
        lengths: ``[B]`` int64 items per row.
        counts: ``[N]`` float32, how often each was seen in training.
        text_at: ``[N]`` int64 positions in ``texts``; -1 where an item has no text.
        item_rows: ``[B]`` int64 rows of the item table of the rows' own items; 0 for one never seen, or none.
        chosen: ``[B]`` bool, whether the rows' own items were taken, as of `Rows.chosen`.
        candidates: ``[M]`` int64 rows of the item table; they fill the bags of the candidate keys, key after key.
        candidate_counts: ``[M]`` float32.
        candidate_text_at: ``[M]`` int64.
        keys: ``[N]`` int64 with the bits of their ids' keys; empty where only the model is interested.
        ages: ``[N]`` int64 seconds from each past item to its row's event; zeros where times have no part.
        domains: ``[N]`` int64 positions of the domains they were in; -1 where that is unknown.
        dense: ``[N + M, d]`` float32, numbers that the catalog has of past items and candidates.
        described: ``[N + M]`` bool, whether features have a part in an item.
        texts: ``[U, size]`` float16, the distinct texts of all of these; U = 0 where there are none.
        longest: of ``lengths``, at least 1; stays on the host.
        trained_items: how many items were seen in training.
        trained_events: how often, all of them together.
    """

    rows: Tensor
    at: Tensor
    lengths: Tensor
    counts: Tensor
    text_at: Tensor
    item_rows: Tensor
    chosen: Tensor
    candidates: Tensor
    candidate_counts: Tensor
    candidate_text_at: Tensor
    keys: Tensor
    ages: Tensor
    domains: Tensor
    dense: Tensor
    described: Tensor
    texts: Tensor
    longest: int
    trained_items: int
    trained_events: int

    def tensors(self) -> dict[str, Tensor]:
        """All but what stays on the host."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Past":
        """With ``change`` applied to all tensors."""
        return replace(self, **{name: change(value) for name, value in self.tensors().items()})


@dataclass(frozen=True)
class Items:
    """Items to choose from.

    Attributes:
        keys: ``[C]`` uint64 their ids' keys.
        rows: ``[C]`` int64 rows of the item table; 0 for one never seen in training.
        counts: ``[C]`` float32, how often each was seen there.
        text_rows: ``[C]`` int64 rows of the text store; -1 for no text.
        catalog_rows: ``[C]`` int64 rows of the catalog; -1 for an item that is not in it.
    """

    keys: np.ndarray
    rows: np.ndarray
    counts: np.ndarray
    text_rows: np.ndarray
    catalog_rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, at: np.ndarray) -> "Items":
        """Those at the given positions, or of a mask."""
        return Items(self.keys[at], self.rows[at], self.counts[at], self.text_rows[at], self.catalog_rows[at])


@dataclass(frozen=True)
class ItemCounts:
    """How often items were seen in training.

    Attributes:
        by_row: ``[rows of the item table]`` int64.
        items: how many were seen at all.
        events: how often, all together.
    """

    by_row: np.ndarray
    items: int
    events: int

    @classmethod
    def of(cls, by_row: np.ndarray) -> "ItemCounts":
        """Of a table's counts."""
        return cls(by_row, int(np.count_nonzero(by_row)), int(by_row.sum()))


_NO_ROWS = np.zeros(0, np.int64)
NONE = Items(np.zeros(0, np.uint64), _NO_ROWS, np.zeros(0, np.float32), _NO_ROWS, _NO_ROWS)

Draw = Callable[[int], Items]
"""The candidates of a step."""


def drawn(items: Items, layout: Layout, padded: int, everything: bool, key: Sequence[int]) -> Draw:
    """What draws the negatives of each step, evenly and with replacement, or takes all items there are.

    Args:
        items: to choose from.
        layout: of the batches.
        padded: P, bags per key.
        everything: takes each item once.
        key: of the random numbers; with the step they decide what is drawn.
    """
    size = layout.candidates * padded

    def draw(step: int) -> Items:
        if everything or not len(items):
            return items.take(np.arange(min(len(items), size)))
        return items.take(np.random.default_rng((*key, step)).integers(0, len(items), size))

    return draw


def past_of(
    parts: Sequence[Rows],
    layout: Layout,
    counts: ItemCounts,
    texts: Tensor | None,
    item_at: int,
    candidates: Items,
    described: Described,
) -> Past:
    """The past items of a batch and its candidates.

    Args:
        parts: as of `assemble`, in its order.
        layout: of the batch, ``layout.past`` > 0.
        counts: of the item table.
        texts: ``[texts, size]`` float16, the item text store; None without one.
        item_at: column of the row's own item in ``Rows.singles``.
        candidates: at most as many as there are bags for.
        described: features of past items, and of candidates behind them.
    """
    rows, offsets = join_ragged([part.lists[HISTORY] for part in parts])
    lengths = np.diff(offsets)
    ends = np.repeat(np.arange(1, len(lengths) + 1) * layout.past - offsets[1:], lengths)
    known = {name: values for name, (values, _) in join_histories([part.history for part in parts]).items()}
    text_rows = known["text"] if texts is not None else np.full(len(rows), -1)
    wanted, places = np.unique(np.concatenate([text_rows, candidates.text_rows, [-1]]), return_inverse=True)
    own = np.concatenate([part.singles[:, item_at] for part in parts])
    return Past(
        rows=_long(rows),
        at=_long(np.arange(len(rows)) + ends),
        lengths=_long(lengths),
        counts=torch.from_numpy(counts.by_row[rows].astype(np.float32)),
        text_at=_long(places[: len(rows)] - 1),
        item_rows=_long(np.maximum(own, 0)),
        chosen=torch.from_numpy(np.concatenate([part.chosen for part in parts])),
        candidates=_long(candidates.rows),
        candidate_counts=torch.from_numpy(candidates.counts.astype(np.float32)),
        candidate_text_at=_long(places[len(rows) : -1] - 1),
        keys=_long(known.get("keys", np.zeros(0))),
        ages=_long(known.get("ages", np.zeros(len(rows)))),
        domains=_long(known.get("domains", np.full(len(rows), -1))),
        dense=torch.from_numpy(described.dense),
        described=torch.from_numpy(described.present),
        texts=torch.zeros(0, 0, dtype=torch.float16) if texts is None else texts[torch.from_numpy(wanted[1:])],
        longest=int(lengths.max(initial=1)),
        trained_items=counts.items,
        trained_events=counts.events,
    )


def _long(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
