"""The stores of an experiment's contents, opened: which row of which store each id has."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..arrow.ids import id_keys
from ..config.experiment import Experiment
from ..contents.content_store import check_store, open_store, store_folder, stored_vectors
from ..contents.content_table import ContentTable
from ..schema.layout import content_key
from ..vocabulary.vocabulary import KeyIndex


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
