"""Reading counts of ids and numbers that were made elsewhere, in place of counting."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..arrow.column_types import plain_table
from ..arrow.ids import id_keys
from ..arrow.values import LARGEST, bad_numbers, floats
from ..config.experiment import Experiment
from ..errors import UserError, nearest
from ..events.event_files import EventFiles, open_parquet, read_group
from ..vocabulary.encoding import Encoded
from ..vocabulary.key_counts import KeyCounts
from .count_tables import (
    COUNT,
    KEY,
    KEYS_ARE,
    NUMBERS,
    OF_OTHERS,
    ROWS,
    VALUE,
    CountTables,
    dense_columns,
    tables_of_ids,
)
from .tally import event_tables

_MOST = 2**53  # sums of larger counts would not be exact


def read_tables(
    experiment: Experiment, train: Mapping[str, EventFiles], tables: CountTables
) -> tuple[dict[str, KeyCounts], dict[str, tuple[int, float, float]]]:
    """Embedding table -> how often its ids are in the training events; and dense column -> how many values, mean and deviation.

    Args:
        experiment: the experiment.
        train: domain -> its training files.
        tables: as of `find_tables`.

    Raises:
        UserError: a value is null, negative, there twice, or no number that fits; the rows are not those of the training events.
    """
    check_rows(train, tables)
    found: dict[str, KeyCounts] = {}
    for name, encoding in event_tables(experiment, train).items():
        where, table = tables.path(name), _read(tables, name)
        counts = _counts(where, table, COUNT)
        found[name] = encoding.ids.counts()
        if KEY in table.column_names:
            _check_settings(tables, name, found[name])
            _add_held(where, encoding, found[name], _distinct(where, table, KEY).to_numpy(), counts)
        elif name in tables_of_ids(experiment):
            keys, valid = id_keys(_distinct(where, table, VALUE))
            found[name].add(keys, valid, counts)
        else:
            values = _finite(where, _distinct(where, table, VALUE), VALUE)
            found[name].add(values, np.ones(len(values), bool), counts)
    return found, _numbers(experiment, train, tables)


def _read(tables: CountTables, name: str) -> pa.Table:
    """A table whole, with the columns that are read of it."""
    wanted = [*OF_OTHERS.get(name, (VALUE, KEY, COUNT))]

    def parts() -> Iterator[pa.Table]:
        for file in tables.files[name]:
            parquet = open_parquet(file)
            columns = [column for column in wanted if column in parquet.schema_arrow.names]
            yield plain_table(parquet.schema_arrow.empty_table().select(columns), keep_dictionaries=False)
            for group in range(parquet.num_row_groups):
                yield plain_table(read_group(file, group, columns), keep_dictionaries=False)

    try:
        table = pa.concat_tables(parts(), promote_options="permissive")
    except pa.ArrowException as error:
        what = f"has files whose columns do not go together ({str(error).splitlines()[0]})"
        raise UserError(tables.path(name), what, "Write all files of a table with the same columns.") from error
    for column in table.column_names:
        nullable = name == NUMBERS and column in ("mean", "deviation")  # of no value
        if table[column].null_count and not nullable:
            row = pc.index(pc.is_null(table[column]), True).as_py()
            remedy = f"Leave nulls out where the table is made: WHERE {column} IS NOT NULL."
            raise UserError(f"{tables.path(name)}: column '{column}', row {row}", "is null", remedy)
    return table


def _counts(where: str, table: pa.Table, column: str) -> np.ndarray:
    """``[N]`` int64, from 0 to `_MOST`."""
    counts = table[column].to_numpy()
    bad = (counts < 0) | (counts > _MOST)
    if bad.any():
        row = int(np.argmax(bad))
        raise UserError(
            f"{where}: column '{column}', row {row}", f"is {counts[row]}", f"Counts are from 0 to {_MOST:,}."
        )
    return counts.astype(np.int64)


def _distinct(where: str, table: pa.Table, column: str) -> pa.ChunkedArray:
    """A column whose values are all there once."""
    values = table[column]
    if pc.count_distinct(values).as_py() < len(values):
        found = pc.value_counts(values)
        twice = found.field(0)[pc.index(pc.greater(found.field(1), 1), True).as_py()]
        remedy = "Write each value once, with all of its rows: GROUP BY it, over all domains together."
        raise UserError(f"{where}: column '{column}'", f"has {twice.as_py()!r} more than once", remedy)
    return values


def _finite(where: str, values: pa.ChunkedArray, column: str) -> np.ndarray:
    """``[N]`` float64, none of which is NaN or beyond `LARGEST`; NaN where null."""
    array = values.combine_chunks()
    if (bad := bad_numbers(array)) is not None:
        row = int(np.argmax(bad))
        what = f"is {array[row].as_py()}"
        raise UserError(f"{where}: column '{column}', row {row}", what, f"Numbers are finite, up to {LARGEST:g}.")
    return floats(array)


def _check_settings(tables: CountTables, name: str, counts: KeyCounts) -> None:
    """Makes sure that keys, where they say what they are, are what this table's would be."""
    for file in tables.files[name]:
        made = (open_parquet(file).schema_arrow.metadata or {}).get(KEYS_ARE, counts.keys_are.encode())
        if made.decode(errors="replace") != counts.keys_are:
            what = f"holds {made.decode(errors='replace')}, and the experiment asks for {counts.keys_are}"
            raise UserError(f"{file}: column '{KEY}'", what, "Count again with these settings.")


def _add_held(where: str, encoding: Encoded, counts: KeyCounts, keys: np.ndarray, of_keys: np.ndarray) -> None:
    """Adds what foundrank's own counting has held, where it is what this encoding can hold."""
    order = np.argsort(keys)
    keys, of_keys = keys[order], of_keys[order]
    try:
        counts.add_counted(keys, of_keys)
        held, of_held = counts.held()
        fits = all(
            map(np.array_equal, (held[of_held > 0], of_held[of_held > 0]), (keys[of_keys > 0], of_keys[of_keys > 0]))
        )
    except (IndexError, ValueError):
        fits = False
    if not fits:
        what = f"has keys that are none of this table's, which has {encoding.ids.table_rows() or 'any number of'} rows"
        raise UserError(
            f"{where}: column '{KEY}'", what, f"Write '{VALUE}' in its place, or count again with these settings."
        )


def check_rows(train: Mapping[str, EventFiles], tables: CountTables) -> None:
    """Makes sure that what was counted is of as many rows as the events have: yesterday's counts are not today's.

    Raises:
        UserError: it is not.
    """
    rows = {name: files.rows for name, files in train.items()}
    table, where = _read(tables, ROWS), tables.path(ROWS)
    counts = _counts(where, table, "rows")
    given = dict(zip(_distinct(where, table, "domain").to_pylist(), counts.tolist(), strict=True))
    for domain in sorted(given.keys() - rows.keys()):
        raise UserError(f"{where}: domain '{domain}'", "is none of the experiment's", nearest(domain, rows))
    for domain, number in rows.items():
        if given.get(domain) != number:
            counted = f"{given[domain]:,} rows were counted" if domain in given else "no rows were counted"
            what = f"{counted}, and the training events have {number:,}"
            raise UserError(
                f"{where}: domain '{domain}'", what, "Make the tables again of the training events as they are."
            )


def _numbers(
    experiment: Experiment, train: Mapping[str, EventFiles], tables: CountTables
) -> dict[str, tuple[int, float, float]]:
    if NUMBERS not in tables.files:
        return {}
    table, where, wanted = _read(tables, NUMBERS), tables.path(NUMBERS), dense_columns(experiment, train)
    names = _distinct(where, table, "name").to_pylist()
    for name in sorted({*names} - {*wanted}):
        raise UserError(f"{where}: '{name}'", "is no dense feature of the events", nearest(name, wanted))
    counts = _counts(where, table, COUNT)
    mean, deviation = (_finite(where, table[column], column) for column in ("mean", "deviation"))
    found: dict[str, tuple[int, float, float]] = {}
    for name in wanted:
        if name not in names:
            raise UserError(f"{where}: '{name}'", "is missing", "Write a row for it, be it of no value.")
        row = names.index(name)
        if counts[row] and not (np.isfinite(mean[row]) and deviation[row] >= 0):
            what = f"mean and deviation are {mean[row]} and {deviation[row]}"
            raise UserError(
                f"{where}: '{name}'", what, "Write the mean, and the deviation of the values, as stddev_pop."
            )
        found[name] = (int(counts[row]), float(mean[row]), float(deviation[row])) if counts[row] else (0, 0.0, 0.0)
    return found
