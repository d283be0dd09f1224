"""Parts of the training rows: a row knows of the labels of some of them, and never of its own."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ..arrow.ids import id_keys, mix
from ..arrow.times import seconds
from ..config.experiment import Experiment
from ..schema.column_needs import time_of_rates

FOLDS = 5
_SALT = np.uint64(0x52415445)


class Place(NamedTuple):
    """Where the first of some training rows stands among those of its domain.

    Attributes:
        file: number of the file.
        group: of the row group in it.
    """

    file: int
    group: int


class RowParts(NamedTuple):
    """Of rows, all ``[N]`` int64.

    Attributes:
        added: the part to which a row's labels are added.
        known: in order of time, the first part whose labels the row does not know; else that which it does not know.
    """

    added: np.ndarray
    known: np.ndarray


class Parts:
    """How the rows of training are divided.

    Where every event has a time, into blocks of time: a row knows of the blocks before its own, so of nothing that happened when
    it did or later. Else into folds: a row knows of all others. What is known of a user is divided by the list of the row, or by
    its item; of an item, by the row's user: for a row's label may follow from those of its list, or be that of another
    row that says the same. In an increment of a training, part 0 is of what was learned from before, and known to every row.
    """

    def __init__(self, bounds: np.ndarray | None, of_increment: bool = False):
        """Args: the times with which the second and later blocks begin, increasing; None for folds; whether there are labels of before."""
        self.bounds, self.of_increment = bounds, of_increment
        self.ordered = bounds is not None
        self.first = int(of_increment)
        self.count = self.first + (FOLDS if bounds is None else len(bounds) + 1)

    @property
    def stride(self) -> int:
        """Between the cells of one id and those of the next, in a table."""
        return self.count if self.ordered else self.count + 1

    def of_rows(self, experiment: Experiment, domain: str, table: pa.Table, place: Place) -> Mapping[str, RowParts]:
        """Entity -> the parts of a row group's rows, as far as what is known of that entity goes.

        Args:
            experiment: the experiment.
            domain: whose rows they are.
            table: the whole row group.
            place: where it stands.
        """
        entities = experiment.entities.present()
        if self.bounds is not None:
            column = time_of_rates(experiment, domain)
            assert column is not None
            at = seconds(table[column])
            block = self.first + np.searchsorted(self.bounds, at, side="right").astype(np.int64)
            unknown = np.isnan(at)  # knows nothing of its own increment, and is known when all is
            of_time = RowParts(np.where(unknown, self.count - 1, block), np.where(unknown, self.first, block))
            return dict.fromkeys(entities, of_time)
        config = experiment.domains[domain]
        of_user = entities["user"].id if config.users else None
        lists = (
            config.list_column if config.list_column != of_user else None
        )  # all that is known of a user is of one list
        keys = [lists, entities["item"].id]
        others = [of_user, config.list_column]
        by_row = mix(np.uint64(place.file << 40 | place.group << 20) ^ mix(np.arange(table.num_rows, dtype=np.uint64)))
        own, other = (self.first + _folds(table, columns, by_row) for columns in (keys, others))
        return {entity: RowParts(*[own if entity == "user" else other] * 2) for entity in entities}


def _folds(table: pa.Table, columns: list[str | None], by_row: np.ndarray) -> np.ndarray:
    """By the first of the columns that a row has something in."""
    keys, missing = by_row, np.ones(len(by_row), bool)
    for column in columns:
        if column is not None and missing.any():
            found, valid = id_keys(table[column])
            keys = np.where(missing & valid, found, keys)
            missing = missing & ~valid
    return (mix(keys ^ _SALT) % np.uint64(FOLDS)).astype(np.int64)
