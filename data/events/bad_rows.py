"""Events under the experiment's policy for data that cannot be used, `bad_data`: of files, row groups and rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..arrow.column_need import ColumnNeed
from ..arrow.column_types import plain_type
from ..config.sections.bad_data import BadDataConfig
from ..schema.bad_values import BadValue, check_share, rows_of, without_bad_values
from .event_files import EventFiles, Unreadable, open_parquet, read_group

_KEPT = 1000  # places that are written down


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

    def add_those_of(self, other: "Skipped") -> None:
        """Takes in what was noted of later files."""
        for domain, rows in other.rows.items():
            self.rows[domain] = self.rows.get(domain, 0) + rows
        self.places += other.places[: _KEPT - len(self.places)]

    def check(self, domain: str, rows: int, policy: BadDataConfig) -> None:
        """Raises a UserError where a domain has more of them than the policy allows in ``rows`` rows."""
        first = next((place for place in self.places if place["domain"] == domain), None)
        where = f"{first['file']}: row group {first['row_group']}, row {first['row']}" if first else domain
        check_share(self.rows.get(domain, 0), rows, policy, f"domain '{domain}'", f", the first at {where}")

    def save(self, path: Path) -> None:
        """Writes the places as Parquet, if there are any."""
        if self.places:
            pq.write_table(pa.Table.from_pylist(self.places), path)
