"""The sparse aspect: an owner's features as one vector."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.batch.batch import Batch
from ...data.schema.layout import Layout
from ..layers.axes import Axis, input_axis, layer_norm, linear
from ..layers.forms import normed_linear, small_linear
from .lookups import side_by_side

Gathered = Mapping[str, tuple[Tensor, Tensor]]
"""Name in ``Batch.vectors`` -> distinct vectors ``[U, size]`` float32, and which of them each of N items has, ``[N]`` int64; -1: none."""


class SparseAspect(nn.Module):
    """The sparse aspect of one owner: pooled ids, dense columns and vector features, through one projection.

    Attributes:
        inputs: name and width of each part of what is projected, in order.
    """

    columns: Tensor
    key_rows: Tensor
    past_columns: Tensor

    def __init__(self, layout: Layout, owner: str, embedding_dim: int, width: int):
        super().__init__()
        self.keys = layout.sparse_of.get(owner, ())
        self.vectors = layout.vectors_of.get(owner, ())
        columns = layout.dense_of.get(owner, ())
        self.has_dense = bool(columns)
        # Positions live on the device: indexing with a list would copy it there, and wait, in every step.
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)
        rows = torch.tensor([layout.keys.index(k) for k in self.keys], dtype=torch.int64)
        self.register_buffer("key_rows", rows, persistent=False)
        past = torch.tensor([columns.index(c) for c in layout.past_dense] if owner == "item" else [], dtype=torch.int64)
        self.register_buffer("past_columns", past, persistent=False)
        self.embedding_dim = embedding_dim
        # No bias: a missing vector is zeros and adds nothing.
        self.vector_projections = nn.ModuleDict(
            {v: linear(layout.vectors[v], embedding_dim, bias=False) for v in self.vectors}
        )
        self.inputs = [(name, embedding_dim) for name in (*self.keys, *self.vectors)]
        self.inputs += [(layout.dense[column], 1) for column in columns]
        self.projection = aspect_projection(input_axis(self.inputs), width)

    def forward(
        self, batch: Batch, pooled: Mapping[str, Tensor], non_empty: Callable[[], Tensor], exists: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The aspect and where it is present.

        Args:
            batch: B rows.
            pooled: key -> ``[B, embedding_dim]``.
            non_empty: gives ``[keys, B]`` bool.
            exists: ``[B]`` bool, whether the row has this owner at all, None where all have; a missing number is not told from a 0.

        Returns:
            ``[B, D]``, and ``[B]`` bool or, where it is in all rows, None.
        """
        parts = side_by_side(pooled, self.keys)
        parts += [small_linear(batch.vectors[v], project) for v, project in self.vector_projections.items()]
        if self.has_dense:
            parts.append(batch.dense.index_select(1, self.columns))
        return self.projection(torch.cat(parts, 1)), self._present(batch, non_empty, exists)

    def _present(self, batch: Batch, non_empty: Callable[[], Tensor], exists: Tensor | None) -> Tensor | None:
        if self.has_dense and exists is None:
            return None
        present = non_empty().index_select(0, self.key_rows).any(0)
        for v in self.vectors:
            present = present | batch.vector_present[v]
        return present if exists is None or not self.has_dense else present | exists

    def of_items(self, lookups: Mapping[str, Tensor], dense: Tensor, vectors: Gathered) -> Tensor:
        """``[N, D]`` of items that are not the rows' own; what only events say is missing.

        Args:
            lookups: key -> ``[N, embedding_dim]``, for ``layout.past_features``.
            dense: ``[N, d]``, for ``layout.past_dense``.
            vectors: among others, those for ``layout.past_vectors``.
        """
        nothing = dense.new_zeros(len(dense), self.embedding_dim)
        parts = [lookups.get(key, nothing) for key in self.keys]
        for name, project in self.vector_projections.items():
            parts.append(picked(project(vectors[name][0]), vectors[name][1]) if name in vectors else nothing)
        if self.has_dense:
            parts.append(dense.new_zeros(len(dense), len(self.columns)).index_copy(1, self.past_columns, dense))
        return self.projection(torch.cat(parts, 1))


def picked(distinct: Tensor, at: Tensor) -> Tensor:
    """``[N, D]``: of ``[U, D]`` those at the given places; zeros for -1, which a row of zeros behind them stands for."""
    return F.pad(distinct, (0, 0, 0, 1))[at]


@dataclass
class PooledFeatures:
    """The features of N items, looked up.

    Attributes:
        lookups: key -> ``[N, embedding_dim]``, for ``layout.past_features``.
        dense: ``[N, d]`` float32, for ``layout.past_dense``.
        present: ``[N]`` bool.
    """

    lookups: dict[str, Tensor]
    dense: Tensor
    present: Tensor

    def first(self, n: int) -> "PooledFeatures":
        """The first n."""
        return PooledFeatures({key: of[:n] for key, of in self.lookups.items()}, self.dense[:n], self.present[:n])


class Projection(nn.Sequential):
    """``[B, I]`` -> ``[B, width]``, normalised so that the aspects of an entity are of one scale."""

    def forward(self, x: Tensor) -> Tensor:
        project, norm = self[0], self[1]
        assert isinstance(project, nn.Linear)
        assert isinstance(norm, nn.LayerNorm)
        return normed_linear(x, project, norm)


def aspect_projection(inputs: Axis | int, width: int) -> Projection:
    """A `Projection`, with declared axes."""
    return Projection(linear(inputs, width), layer_norm(width))
