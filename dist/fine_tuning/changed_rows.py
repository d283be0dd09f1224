"""Rows of embedding tables whose id is another than in the run that a training begins with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...data.counting.statistics import Statistics
from ...data.schema.layout import ATTENTION_TABLE, Layout, id_key
from ...data.vocabulary.managed import ManagedIds
from ...data.vocabulary.vocabulary import Vocabulary
from ...model.representation.embedding_tables import initial_rows
from .pretrained import Pretrained


@dataclass(frozen=True)
class ChangedRows:
    """Of one table.

    Attributes:
        left: ``[K]`` int64, increasing: those that an id has given up.
        times: ``[K]`` int64, how many ids have given up each of these so far.
        new: ``[N]`` int64, increasing: those of ids that had none.
    """

    left: np.ndarray
    times: np.ndarray
    new: np.ndarray


def changed_rows(base: Pretrained, statistics: Statistics, layout: Layout) -> dict[str, ChangedRows]:
    """Table of both runs -> its rows that are another id's now; ``layout`` and ``statistics`` are the new one's."""
    out = {}
    for name, rows in layout.tables.items():
        of = id_key("item") if name == ATTENTION_TABLE else name
        before, now = base.statistics.tables.get(of), statistics.tables[of]
        if name not in base.layout.tables or before is None:
            continue
        nothing = np.zeros(0, np.int64)
        if isinstance(before, Vocabulary) and isinstance(now, Vocabulary):
            left, new = now.changed(before)
        else:
            left, new = nothing, np.arange(before.rows, now.rows)
        left, new = left[left < rows], new[new < rows]  # without ids there is one row, whatever is counted
        times = now.state.rows.given_up[left] if isinstance(now, ManagedIds) else nothing
        out[name] = ChangedRows(left, times, new)
    return out


def begin_anew(tables: Mapping[str, Any], changed: Mapping[str, ChangedRows], seed: int, dim: int) -> None:
    """Gives rows that ids have given up initial values, of which no owner before has had the same; ``tables`` are those of a state dict."""
    for name, of in changed.items():
        if not len(of.left) or (value := tables.get(f"embeddings.embedding_bags.{name}.weight")) is None:
            continue
        for part, at, (column, columns) in held(value, of.left):
            rows = torch.from_numpy(of.left[at])
            values = initial_rows(
                name, seed, rows, range(column, column + columns), dim, torch.from_numpy(of.times[at])
            )
            row = part.metadata.shard_offsets[0]
            part.tensor[(rows - row).to(part.tensor.device)] = values.to(part.tensor)


def held(value: Any, rows: np.ndarray) -> Iterator[tuple[Any, np.ndarray, tuple[int, int]]]:
    """The shards of a table that this rank has: each, which of ``rows`` it holds, and its first column and how many there are."""
    for part in value.local_shards():
        (row, column), (count, columns) = part.metadata.shard_offsets, part.metadata.shard_sizes
        yield part, np.flatnonzero((rows >= row) & (rows < row + count)), (column, columns)
