"""The vectors of contents by row, and which row each id has: of content stores, and of catalogs that hold vectors."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..arrow.ids import id_keys
from ..arrow.values import vector_rows
from ..config.experiment import Experiment
from ..content_kinds.vector import Vector
from ..contents.content_store import check_store, open_store, store_folder
from ..schema.layout import content_key
from ..vocabulary.vocabulary import KeyIndex


@dataclass(frozen=True)
class ContentTable:
    """A content of many entities.

    Attributes:
        vectors: ``[N, size]``, float16 over a mapped file, or float32.
        index: of the ids that may have one.
        row_of_key: ``[K]`` int64 rows of ``vectors``, in the order of the index; -1 for none.
    """

    vectors: Tensor
    index: KeyIndex
    row_of_key: np.ndarray

    def rows(self, keys: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """``[N]`` int64 rows for id keys ``[N]``; -1 where there is no vector, or the id is not valid."""
        if len(self.row_of_key) == 0:
            return np.full(len(keys), -1, np.int64)
        at = self.index.lookup(keys)
        return np.where((at >= 0) if valid is None else valid & (at >= 0), self.row_of_key[at], -1)


def picked(vectors: Tensor, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """``[N, size]`` vectors of int64 rows ``[N]``, zeros for -1; and ``[N]`` bool, which of them there are."""
    at = torch.from_numpy(rows)
    present = at >= 0
    return vectors[at.clamp(min=0)] * present.unsqueeze(1), present


def open_stores(experiment: Experiment) -> dict[str, ContentTable]:
    """The contents of the stores that the model reads, by their names in ``Batch.vectors``.

    Raises:
        UserError: a store is absent, or was made from other contents.
    """
    found = {}
    for of in experiment.stores_read():
        store = open_store(store_folder(experiment, of))
        check_store(store, experiment, of)
        index = KeyIndex(id_keys(store.keys)[0])
        found[content_key(*of)] = ContentTable(store.vectors, index, store.row_of_key.astype(np.int64))
    return found


def given_content(content: Vector, table: pa.Table, index: KeyIndex, where: str) -> ContentTable:
    """A content that a catalog holds as vectors.

    Args:
        content: which of its columns it is.
        table: the catalog.
        index: of its keys.
        where: file and column, for errors.

    Raises:
        UserError: a vector is of another size or not finite, with its row.
    """
    vectors, present = vector_rows(table[content.vector], content.size, where)
    return ContentTable(torch.from_numpy(vectors), index, np.where(present, np.arange(len(vectors)), -1))
