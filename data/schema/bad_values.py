"""Values that cannot be used, and what becomes of them under the policy `bad_data`.

A row with a bad value stays where it is, so that the order of an epoch and the rows of an output do not change: the bad
value becomes a missing one, and so do the row's labels, which takes it out of every loss and metric.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ..arrow.beside_history import uneven
from ..arrow.column_need import BadValues, ColumnNeed
from ..arrow.column_types import LABELS, LIST_NAME, LIST_NUMBER, LIST_TIME, NUMBER, TIME, VECTOR, one_array
from ..arrow.times import bad_times
from ..arrow.values import NO_NUMBER, bad_numbers, bad_vectors
from ..config.sections.bad_data import BadDataConfig
from ..errors import UserError
from .column_needs import HISTORY_FIELD

_VALUES = {LIST_TIME: "times", LIST_NAME: "domains", LIST_NUMBER: "weights"}
_BAD = {
    LIST_TIME: BadValues(bad_times, "no times"),
    NUMBER: BadValues(bad_numbers, NO_NUMBER),
    TIME: BadValues(bad_times, "no time"),
}


class BadValue(NamedTuple):
    """One bad value: its row in the table it was found in, its column (None: the whole row group) and what is wrong."""

    row: int
    column: str | None
    what: str


def without_bad_values(table: pa.Table, needs: Sequence[ColumnNeed]) -> tuple[pa.Table, list[BadValue]]:
    """The table with bad values and the labels of their rows missing, and the bad values that were in it."""
    found: list[BadValue] = []
    for need in needs:
        array = one_array(table[need.name])
        if need.beside:
            bad = uneven(table[need.beside], array)
            what = f"not as many {_VALUES[need.holds]} as {_of_what(need)}s"
            of_values = need.bad or _BAD.get(need.holds)
            if of_values is not None and (no_values := of_values.find(array)) is not None:
                bad = no_values if bad is None else bad | no_values
                what += f", or {of_values.what}"
        elif need.holds == VECTOR:
            bad, what = bad_vectors(array, need.size), f"no vector of {need.size} finite values"
        elif (of_kind := need.bad or _BAD.get(need.holds)) is not None:
            bad, what = of_kind.find(array), of_kind.what
        else:
            continue
        if bad is not None:
            found += [BadValue(int(row), need.name, what) for row in np.flatnonzero(bad)]
            # Ids go with all that is said of them.
            beside = [other.name for other in needs if other.beside == need.beside]
            for name in {need.beside: None, **dict.fromkeys(beside)} if need.beside else [need.name]:
                table = _without(table, name, bad)
    if found:
        rows = rows_of(found, table.num_rows)
        for name in {need.name for need in needs if need.holds in LABELS}:
            table = _without(table, name, rows)
    return table, found


def refuse_beside(table: pa.Table, needs: Sequence[ColumnNeed], where: str) -> None:
    """Raises a UserError for the first bad value beside ids, or bad time; ``where`` is file and row group."""
    needs = [need for need in needs if need.beside or need.holds == TIME]
    if not any(need.beside for need in needs):
        return
    for bad in without_bad_values(table, needs)[1][:1]:
        need = next(need for need in needs if need.name == bad.column)
        remedy = f"Write one per {_of_what(need)}, and null where it is unknown."
        raise UserError(f"{where}: column '{bad.column}', row {bad.row}", f"holds {bad.what}", remedy)


def _of_what(need: ColumnNeed) -> str:
    """What each value of a column beside another one is of."""
    return "past item" if need.field.startswith(HISTORY_FIELD) else "id"


def rows_of(found: Sequence[BadValue], rows: int) -> np.ndarray:
    """``[rows]`` bool, True for the rows with a bad value."""
    mask = np.zeros(rows, bool)
    mask[[bad.row for bad in found]] = True
    return mask


def _without(table: pa.Table, name: str, rows: np.ndarray) -> pa.Table:
    at = table.column_names.index(name)
    kept = pa.array(np.arange(table.num_rows), mask=rows)  # to take a missing position gives a missing value
    return table.set_column(at, name, one_array(table[name]).take(kept))


def check_share(bad: int, rows: int, policy: BadDataConfig, where: str, first: str = "") -> None:
    """Raises a UserError where more rows are bad than the policy allows."""
    if bad > policy.max_share * rows:
        raise UserError(
            where,
            f"{bad:,} of {rows:,} rows are bad{first}; bad_data.max_share allows {policy.max_share:.2%}",
            "Write the data again, or raise bad_data.max_share if that many may be left out.",
        )
