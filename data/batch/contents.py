"""The vectors of contents by row, and which row each id has: of content stores, and of catalogs that hold vectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..arrow.ids import id_keys
from ..config.experiment import Experiment
from ..contents.content_store import check_store, open_store, store_folder, stored_vectors
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


@dataclass(frozen=True)
class OpenedStore:
    """What is read of a content store; its vectors stay in their file, for each process to map.

    Attributes:
        folder: the store's, on this machine.
        shape: ``rows`` and ``dimension`` of the vectors, as its manifest has them.
        index: of its keys.
        row_of_key: ``[K]`` int64 rows of the vectors, in the order of the index.
    """

    folder: Path
    shape: Mapping[str, int]
    index: KeyIndex
    row_of_key: np.ndarray

    def mapped(self) -> ContentTable:
        """The store's content."""
        return ContentTable(stored_vectors(self.folder, self.shape), self.index, self.row_of_key)


def open_stores(experiment: Experiment) -> dict[str, OpenedStore]:
    """The stores of the contents that the model reads, by their names in ``Batch.vectors``.

    Raises:
        UserError: a store is absent, or was made from other contents.
    """
    found = {}
    for of in experiment.stores_read():
        folder = store_folder(experiment, of)
        store = open_store(folder)
        check_store(store, experiment, of)
        shape = {name: store.manifest[name] for name in ("rows", "dimension")}
        index = KeyIndex(id_keys(store.keys)[0])
        found[content_key(*of)] = OpenedStore(folder, shape, index, store.row_of_key.astype(np.int64))
    return found
