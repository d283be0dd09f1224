"""What becomes of data that cannot be used: the experiment's policy, `bad_data`, for files, row groups and rows.

A row with a bad value stays where it is, so that the order of an epoch and the rows of an output do not change: the bad
value becomes a missing one, and so do the row's labels, which takes it out of every loss and metric.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .beside import uneven
from .column_types import LABEL, LIST_NAME, LIST_TIME, NUMBER, PROBABILITY, TIME, VECTOR, one_array, plain_type
from .columns import HISTORY_FIELD, ColumnNeed
from .errors import UserError
from .parquet import EventFiles, Unreadable, open_parquet, read_group
from .settings import BadDataConfig
from .times import bad_times
from .values import bad_labels, bad_numbers, bad_probabilities, bad_vectors

_KEPT = 1000  # places that are written down
_BESIDE_ITEMS = {LIST_TIME: "times", LIST_NAME: "domains"}


class BadValue(NamedTuple):
    """One bad value: its row in the table it was found in, its column (None: the whole row group) and what is wrong."""

    row: int
    column: str | None
    what: str


def read_events(
    path: str, group: int, needs: Sequence[ColumnNeed], policy: BadDataConfig
) -> tuple[pa.Table, list[BadValue]]:
    """One row group of events. Under ``skip`` without what is bad in it, which comes beside it.

    Raises:
        Unreadable: under ``fail``, the row group is damaged.
    """
    columns = list(dict.fromkeys(need.name for need in needs))
    if not policy.skips:
        return read_group(path, group, columns), []
    try:
        table = read_group(path, group, columns)
    except Unreadable as error:
        schema, rows = open_parquet(path).schema_arrow, open_parquet(path).metadata.row_group(group).num_rows
        missing = {name: pa.nulls(rows, plain_type(schema.field(name).type)) for name in columns}
        return pa.table(missing), [BadValue(row, None, error.what) for row in range(rows)]
    return without_bad_values(table, needs)


def read_good_rows(
    path: str, group: int, needs: Sequence[ColumnNeed], columns: Sequence[str], policy: BadDataConfig
) -> pa.Table:
    """Some columns of one row group, under ``skip`` without its bad rows: to see these, all that is needed is read then.

    Args:
        path: of the file.
        group: the row group.
        needs: all that the experiment reads of these events, which says what is bad.
        columns: names of those that are wanted.
        policy: for bad data.

    Raises:
        Unreadable: under ``fail``, the row group is damaged.
    """
    if not policy.skips:
        return read_group(path, group, list(dict.fromkeys(columns)))
    table, bad = read_events(path, group, needs, policy)
    return table.filter(pa.array(~rows_of(bad, table.num_rows))).select(list(dict.fromkeys(columns)))


def without_bad_values(table: pa.Table, needs: Sequence[ColumnNeed]) -> tuple[pa.Table, list[BadValue]]:
    """The table with bad values and the labels of their rows missing, and the bad values that were in it."""
    found: list[BadValue] = []
    items = next((table[need.name] for need in needs if need.field == HISTORY_FIELD), None)
    beside = [need.name for need in needs if need.holds in _BESIDE_ITEMS or need.field == HISTORY_FIELD]
    for need in needs:
        array = one_array(table[need.name])
        if need.holds == NUMBER:
            bad, what = bad_numbers(array, need.above), "no finite number that fits"
        elif need.holds == VECTOR:
            bad, what = bad_vectors(array, need.size), f"no vector of {need.size} finite values"
        elif need.holds in _BESIDE_ITEMS:
            assert items is not None
            bad = uneven(items, array)
            what = f"not as many {_BESIDE_ITEMS[need.holds]} as past items"
            if need.holds == LIST_TIME and (no_times := bad_times(array)) is not None:
                bad = no_times if bad is None else bad | no_times
                what += ", or no times"
        elif need.holds == TIME:
            bad, what = bad_times(array), "no time"
        elif need.holds == PROBABILITY:
            bad, what = bad_probabilities(array), "neither from 0 to 1 nor null"
        elif need.holds == LABEL:
            bad, what = bad_labels(array), "neither 0 nor 1 nor null"
        else:
            continue
        if bad is not None:
            found += [BadValue(int(row), need.name, what) for row in np.flatnonzero(bad)]
            for name in beside if need.name in beside else [need.name]:  # a history goes with all that is said of it
                table = _without(table, name, bad)
    if found:
        rows = rows_of(found, table.num_rows)
        for name in {need.name for need in needs if need.holds == LABEL}:
            table = _without(table, name, rows)
    return table, found


def refuse_beside(table: pa.Table, needs: Sequence[ColumnNeed], where: str) -> None:
    """Raises a UserError for the first bad value beside the history; ``where`` is file and row group."""
    needs = [need for need in needs if need.holds in (*_BESIDE_ITEMS, TIME) or need.field == HISTORY_FIELD]
    for bad in without_bad_values(table, needs)[1][:1] if len(needs) > 1 else []:
        remedy = "Write one per item of the history, and null where it is unknown."
        raise UserError(f"{where}: column '{bad.column}', row {bad.row}", f"holds {bad.what}", remedy)


def find_bad_rows(domain: str, files: EventFiles, needs: Sequence[ColumnNeed], policy: BadDataConfig) -> "Skipped":
    """Reads files of a domain once, for what is bad in them.

    Raises:
        UserError: under ``fail`` a damaged row group; under ``skip`` more bad rows than allowed.
    """
    skipped = Skipped()
    for path, group in files.row_groups:
        skipped.add(domain, path, group, read_events(path, group, needs, policy)[1])
        skipped.check(domain, files.rows, policy)
    return skipped


def rows_of(found: Sequence[BadValue], rows: int) -> np.ndarray:
    """``[rows]`` bool, True for the rows with a bad value."""
    mask = np.zeros(rows, bool)
    mask[[bad.row for bad in found]] = True
    return mask


def _without(table: pa.Table, name: str, rows: np.ndarray) -> pa.Table:
    at = table.column_names.index(name)
    kept = pa.array(np.arange(table.num_rows), mask=rows)  # to take a missing position gives a missing value
    return table.set_column(at, name, one_array(table[name]).take(kept))


@dataclass
class Skipped:
    """The bad rows of some files.

    Attributes:
        rows: domain -> bad rows.
        places: the first of them, to be written down.
    """

    rows: dict[str, int] = field(default_factory=dict)
    places: list[dict[str, str | int | None]] = field(default_factory=list)

    def add(self, domain: str, path: str, group: int, found: Sequence[BadValue]) -> None:
        """Takes note of what is bad in a row group."""
        self.rows[domain] = self.rows.get(domain, 0) + len({bad.row for bad in found})
        for bad in found[: _KEPT - len(self.places)]:
            place = {"domain": domain, "file": path, "row_group": group, "row": bad.row}
            self.places.append(place | {"column": bad.column, "what": bad.what})

    def check(self, domain: str, rows: int, policy: BadDataConfig) -> None:
        """Raises a UserError where a domain has more of them than the policy allows in ``rows`` rows."""
        first = next((place for place in self.places if place["domain"] == domain), None)
        where = f"{first['file']}: row group {first['row_group']}, row {first['row']}" if first else domain
        check_share(self.rows.get(domain, 0), rows, policy, f"domain '{domain}'", f", the first at {where}")

    def save(self, path: Path) -> None:
        """Writes the places as Parquet, if there are any."""
        if self.places:
            pq.write_table(pa.Table.from_pylist(self.places), path)


def check_share(bad: int, rows: int, policy: BadDataConfig, where: str, first: str = "") -> None:
    """Raises a UserError where more rows are bad than the policy allows."""
    if bad > policy.max_share * rows:
        raise UserError(
            where,
            f"{bad:,} of {rows:,} rows are bad{first}; bad_data.max_share allows {policy.max_share:.2%}",
            "Write the data again, or raise bad_data.max_share if that many may be left out.",
        )
