"""Counts of ids and numbers as Parquet tables, written by whoever has counted, foundrank or Spark or DuckDB: which there are, and their columns.

docs/reference/counts.md has their schema.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..arrow.column_types import NUMBER, SCALAR_ID, VECTOR, holds, id_family, is_string, plain_table, plain_type
from ..config.experiment import Experiment
from ..errors import UserError, nearest
from ..events.check_events import id_types
from ..events.event_files import EventFiles, open_parquet
from ..schema.column_needs import needed_columns
from ..storage import storage
from ..storage.globs import expand_glob, parquet_below
from ..vocabulary.key_counts import KeyCounts
from .tally import Tally, event_tables

ROWS, NUMBERS = "rows", "numbers"
VALUE, KEY, COUNT = "value", "key", "count"
KEYS_ARE = b"foundrank.keys"
"""In a table's metadata: what foundrank's own keys are, as of `KeyCounts.keys_are`."""
_FOLDER = "Give the folder that holds the tables, such as id_item.parquet."


class _Column(NamedTuple):
    """What a column may hold: by its type, and in words."""

    test: Callable[[pa.DataType], bool]
    words: str


_WHOLE = _Column(pa.types.is_integer, "integers")
_NAME = _Column(is_string, "strings")
_FLOAT = _Column(lambda kind: holds(kind, NUMBER), "numbers")
_KEYS = _Column(pa.types.is_uint64, "integers of 64 bits without a sign")
_IDS = _Column(lambda kind: holds(kind, SCALAR_ID), "integers or strings")
OF_OTHERS = {
    ROWS: {"domain": _NAME, "rows": _WHOLE},
    NUMBERS: {"name": _NAME, COUNT: _WHOLE, "mean": _FLOAT, "deviation": _FLOAT},
}


@dataclass(frozen=True)
class CountTables:
    """Tables that an experiment takes, by their names, columns and types; what they hold has not been looked at.

    Attributes:
        folder: path or URI of where they are.
        files: name of a table -> its files.
    """

    folder: str
    files: dict[str, tuple[str, ...]]

    @property
    def every_file(self) -> list[str]:
        """All files."""
        return [file for files in self.files.values() for file in files]

    def path(self, name: str) -> str:
        """Where a table is, or should be: a file, or a folder of files."""
        return storage.join(self.folder, f"{name}.parquet")


def find_tables(experiment: Experiment, train: Mapping[str, EventFiles], folder: str) -> CountTables:
    """The tables of a folder, by their names, columns and types.

    Args:
        experiment: the experiment.
        train: domain -> its training files.
        folder: path or URI.

    Raises:
        UserError: there is no such folder; a table is missing, or the experiment has none of that name; a column is missing, or of
            another type; the experiment leaves out bad rows, which tables know nothing of.
    """
    if experiment.bad_data.skips:
        what = "leaves out bad rows, and what was counted elsewhere knows nothing of them"
        raise UserError("bad_data.policy: skip", what, "Mend these rows and write `fail`, or let foundrank count.")
    if not storage.is_folder(folder):
        raise UserError(folder, "is no folder" if storage.exists(folder) else "does not exist", _FOLDER)
    wanted = {ROWS: "the rows of each domain"} | _told(experiment, train)
    there = {name.removesuffix(".parquet") for name in storage.names(folder) if name.endswith(".parquet")}
    tables = CountTables(folder, {})
    for name in sorted(there - wanted.keys()):
        raise UserError(tables.path(name), "is no table that this experiment takes", nearest(name, wanted))
    types = id_types(experiment, train)
    for name, of in wanted.items():
        files = expand_glob(parquet_below(tables.path(name)))
        if not files:
            columns = " and ".join(OF_OTHERS.get(name, (VALUE, COUNT)))
            raise UserError(tables.path(name), f"is missing: {of}", f"Write it with the columns {columns}.")
        tables.files[name] = tuple(files)
        for file in files:
            schema = open_parquet(file).schema_arrow
            _check_columns(file, schema, _columns_of(experiment, file, schema, name, types.get(name)))
    return tables


def write_tables(
    folder: Path, ids: Mapping[str, KeyCounts], dense: Mapping[str, tuple[int, float, float]], rows: Mapping[str, int]
) -> None:
    """Writes what `read_tables` reads; of ids their keys, since those that are strings are not kept.

    Args:
        folder: which is made.
        ids: embedding table -> how often its ids are in the training events.
        dense: dense column -> how many values, mean and deviation.
        rows: domain -> its training rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = {ROWS: pa.table({"domain": pa.array(rows, pa.string()), "rows": pa.array(rows.values(), pa.int64())})}
    if dense:
        columns = dict(zip((COUNT, "mean", "deviation"), zip(*dense.values(), strict=True), strict=True))
        written[NUMBERS] = pa.table({"name": [*dense], **{name: [*of] for name, of in columns.items()}})
    for name, of_table in ids.items():
        keys, counts = of_table.held()  # in an order that depends on how many ranks have counted
        order = np.argsort(keys)
        table = pa.table({KEY: keys[order], COUNT: counts[order]})
        written[name] = table.replace_schema_metadata({KEYS_ARE: of_table.keys_are})
    for name, table in written.items():
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")


def _told(experiment: Experiment, train: Mapping[str, EventFiles]) -> dict[str, str]:
    """Name of a table that tells of ids or numbers in the training events -> what of, in words."""
    columns = {f"id_{name}": entity.id for name, entity in experiment.looked_up().items()}
    for name, feature in experiment.features().items():
        first, *_ = feature.needs(name, "")
        columns |= dict.fromkeys(feature.inputs(name).encodings, first.name)
    told = {
        name: f"how often the training events have each value of column '{columns[name]}'"
        for name in event_tables(experiment, train)
    }
    dense = dense_columns(experiment, train)
    return told | ({NUMBERS: f"mean and deviation of {', '.join(dense)} in the training events"} if dense else {})


def dense_columns(experiment: Experiment, train: Mapping[str, EventFiles]) -> list[str]:
    """Dense columns of which the counting pass finds mean and deviation in the training events, in the order in which it does."""
    tally = Tally(experiment)
    for name, files in ((name, of) for name, of in train.items() if of.files):
        schema = open_parquet(files.files[0]).schema_arrow
        needs = {need.name for need in needed_columns(experiment, name) if need.holds != VECTOR}
        none = pa.schema([field for field in schema if field.name in needs]).empty_table()
        tally.add_ids(name, plain_table(none), files.files[0])
    return [*tally.counts.take_moments()]


def tables_of_ids(experiment: Experiment) -> set[str]:
    """Embedding tables of ids; others are of numbers."""
    return {need.table for name in experiment.domains for need in needed_columns(experiment, name)}


def _columns_of(
    experiment: Experiment, file: str, schema: pa.Schema, name: str, family: str | None
) -> Mapping[str, _Column]:
    """The columns of a table, by what it has; ``family`` is what its ids are, where that is known."""
    if name in OF_OTHERS:
        return OF_OTHERS[name]
    if KEY in schema.names and VALUE in schema.names:
        raise UserError(file, f"has both '{VALUE}' and '{KEY}'", f"Leave out '{KEY}', which is what foundrank writes.")
    if KEY in schema.names:
        return {KEY: _KEYS, COUNT: _WHOLE}
    if name not in tables_of_ids(experiment):
        return {VALUE: _FLOAT, COUNT: _WHOLE}
    if family is None:
        return {VALUE: _IDS, COUNT: _WHOLE}
    of_events = _Column(lambda kind: _IDS.test(kind) and id_family(kind) == family, f"{family}s, as in the events")
    return {VALUE: of_events, COUNT: _WHOLE}


def _check_columns(file: str, schema: pa.Schema, wanted: Mapping[str, _Column]) -> None:
    for name, column in wanted.items():
        if (times := schema.names.count(name)) != 1:
            what = f"has {times} columns '{name}'" if times else f"has no column '{name}'"
            raise UserError(file, what, f"Its columns are {' and '.join(wanted)}.")
        kind = plain_type(schema.field(name).type)
        if not column.test(kind):
            remedy = "Cast it where the table is written, e.g. CAST(count(*) AS BIGINT)."
            raise UserError(f"{file}: column '{name}'", f"is {kind}, where {column.words} are expected", remedy)
