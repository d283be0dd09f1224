"""Catalogs: Parquet tables with one row per entity."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..arrow.column_types import plain_table
from ..arrow.ids import id_keys
from ..config.sections.bad_data import BadDataConfig
from ..config.sections.entities import EntityConfig
from ..errors import UserError, one_line
from ..features.feature import Feature
from ..schema.bad_values import check_share, rows_of, without_bad_values
from ..storage import storage
from ..storage.parquet_memory import READ_ERRORS, check_size
from .catalog_files import check_catalog, key_type, mixing, unreadable


def read_catalog(entity_name: str, entity: EntityConfig, columns: Sequence[str]) -> pa.Table:
    """Read some columns of an entity's catalog, with its key checked.

    Where the policy for its bad rows is ``skip``, rows without a key and all but the first row of a key are left out.

    Args:
        entity_name: name of the entity, for messages.
        entity: its config; ``entity.catalog`` must be set.
        columns: catalog columns to read besides the key.

    Returns:
        Table whose first column is the key (``entity.catalog.key``; string, uint64 or int64, unique, no nulls), then
        ``columns`` in the given order, of plain types.

    Raises:
        UserError: as `check_catalog`; a value does not fit the type of another file, a key is null or occurs twice (under
            ``skip``, more often than allowed), or there is no row.
    """
    assert entity.catalog is not None
    pattern, key = entity.catalog.path, entity.catalog.key
    names = list(dict.fromkeys([key, *columns]))
    schemas = check_catalog(entity_name, entity, columns)
    files, kind = [file for file, _ in schemas], key_type(schemas, key)
    policy = entity.catalog.policy
    parts = [_read_file(file, names, key, kind, policy) for file in files]
    with mixing(pattern):
        table = pa.concat_tables(parts, promote_options="permissive")
    if table.num_rows == 0:
        raise UserError(pattern, f"the catalog of entities.{entity_name} has no row", "Write one row per entity.")
    if policy.skips:
        return _usable(table, key, policy, pattern).combine_chunks()
    _check_unique(table[key], key, files, [part.num_rows for part in parts])
    return table.combine_chunks()


def read_catalog_features(name: str, entity: EntityConfig) -> tuple[dict[str, Feature], pa.Table]:
    """The features an entity has from its catalog, and the catalog with their columns and those of vectors that are contents; under
    ``skip`` without bad values.

    Raises:
        UserError: as `read_catalog`, and more bad values than allowed.
    """
    assert entity.catalog is not None
    features: dict[str, Feature] = {n: f for n, f in entity.features.items() if entity.comes_from_catalog(f)}
    needs = [need for n, f in features.items() for need in f.needs(n, f"entities.{name}.features.{n}")]
    for content_name, content in entity.given(in_catalog=True).items():
        needs += content.needs(f"entities.{name}.{entity.place_of(content_name)}")
    table, policy = read_catalog(name, entity, [need.name for need in needs]), entity.catalog.policy
    if policy.skips:
        table, found = without_bad_values(table, needs)
        if found:
            first = f": column '{found[0].column}' has {found[0].what}"
            check_share(int(rows_of(found, table.num_rows).sum()), table.num_rows, policy, entity.catalog.path, first)
    return features, table


def _usable(table: pa.Table, key: str, policy: BadDataConfig, pattern: str) -> pa.Table:
    """The first row of every key."""
    keys, valid = id_keys(table[key])
    keyed = np.flatnonzero(valid)
    first = np.sort(keyed[np.unique(keys[keyed], return_index=True)[1]])
    check_share(
        table.num_rows - len(first), table.num_rows, policy, pattern, ": keys that are null or were there before"
    )
    return table if len(first) == table.num_rows else table.take(pa.array(first))


class Piece(NamedTuple):
    """Some rows of a catalog.

    Attributes:
        file: the one they are in.
        row: of the first in that file.
        position: of the first, counted over all files.
        table: key first.
    """

    file: str
    row: int
    position: int
    table: pa.Table


def scan_catalog(
    entity_name: str,
    entity: EntityConfig,
    columns: Sequence[str],
    within: tuple[int, int] | None = None,
    batch_rows: int = 1 << 14,
) -> Iterator[Piece]:
    """Reads an entity's catalog piece by piece, in bounded memory.

    Args:
        entity_name: name of the entity, for messages.
        entity: its config; ``entity.catalog`` must be set.
        columns: catalog columns to read besides the key.
        within: first and last position of interest; row groups and pieces that hold none are passed over.
        batch_rows: most rows of a piece.

    Yields:
        Pieces in order, columns as in `read_catalog`. The keys are not null, unless bad rows are skipped; whether they
        are unique only `read_catalog` can say.

    Raises:
        UserError: as `read_catalog`, but for keys that occur twice and a catalog without rows.
    """
    assert entity.catalog is not None
    key = entity.catalog.key
    names = list(dict.fromkeys([key, *columns]))
    first, last = within or (0, np.iinfo(np.int64).max)
    position = 0
    schemas = check_catalog(entity_name, entity, columns)
    kind = key_type(schemas, key)
    for file, _ in schemas:
        try:
            groups = np.array(_row_groups(file, storage.modified(file)), np.int64)
            ends = np.cumsum(groups)
            wanted = np.flatnonzero((position + ends > first) & (position + ends - groups <= last))
            row = int(ends[wanted[0]] - groups[wanted[0]]) if len(wanted) else 0
            if len(wanted) or not len(groups):
                with storage.parquet_file_in_pieces(file) as parquet:
                    check_size(parquet, wanted.tolist(), names, file, batch_rows)
                    for batch in parquet.iter_batches(batch_rows, wanted.tolist(), names, use_threads=False):
                        if position + row + batch.num_rows > first and position + row <= last:
                            table = pa.Table.from_batches([batch]).select(names)
                            keyed = _checked_keys(table, key, kind, file, row, entity.catalog.policy)
                            yield Piece(file, row, position + row, keyed)
                        row += batch.num_rows
            position += int(groups.sum())
        except READ_ERRORS as error:
            raise unreadable(file, error) from error
        if position > last:
            return


@lru_cache(1 << 14)
def _row_groups(file: str, written: int) -> tuple[int, ...]:
    """Rows of each row group; ``written``, the time, keeps what is remembered true."""
    metadata = storage.parquet_file(file).metadata
    return tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))


def _check_unique(keys: pa.ChunkedArray, key: str, files: list[str], lengths: list[int]) -> None:
    """Refuses a key that occurs twice.

    Args:
        keys: of all rows of the catalog.
        key: name of their column.
        files: of the catalog.
        lengths: rows of each.

    Raises:
        UserError: naming the key and the first two places.
    """
    counts = pc.value_counts(keys)
    twice = pc.greater(counts.field("counts"), 1)
    if not pc.any(twice).as_py():
        return
    value = counts.field("values").filter(twice)[0]
    rows = np.flatnonzero(pc.equal(keys, value).to_numpy())[:2]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    owners = np.searchsorted(starts, rows, side="right") - 1
    first, second = (int(row - starts[owner]) for row, owner in zip(rows, owners, strict=True))
    if owners[0] == owners[1]:
        place = f"rows {first} and {second}"
    else:
        place = f"row {first} and in row {second} of {Path(files[owners[1]]).name}"
    raise UserError(
        files[owners[0]],
        f"key {value.as_py()!r} of column '{key}' is in {place} (counting from 0);"
        f" {pc.sum(twice).as_py():,} key(s) occur more than once",
        "A catalog has one row per key: drop the duplicates.",
    )


def _read_file(file: str, names: list[str], key: str, kind: pa.DataType, policy: BadDataConfig) -> pa.Table:
    try:
        with storage.parquet_file(file) as parquet:
            check_size(parquet, range(parquet.num_row_groups), names, file)
            table = parquet.read(columns=names).select(names)
    except READ_ERRORS as error:
        raise unreadable(file, error) from error
    return _checked_keys(table, key, kind, file, 0, policy)


def _checked_keys(
    table: pa.Table, key: str, kind: pa.DataType, file: str, start: int, policy: BadDataConfig
) -> pa.Table:
    """The table in plain types, its keys as ``kind``; ``start`` is the position of its first row in the file."""
    table = plain_table(table, keep_dictionaries=False)  # which the types of another file's values would not go with
    try:
        keys = table[key].cast(kind)
    except pa.ArrowInvalid as error:
        raise UserError(
            file,
            f"key column '{key}' does not fit {kind} ({one_line(error)})",
            "Use int64 or string ids in all files.",
        ) from error
    if keys.null_count and not policy.skips:
        row = start + pc.index(pc.is_null(keys), True).as_py()
        raise UserError(
            file,
            f"key column '{key}' is null in row {row} (counting from 0)",
            "Every row of a catalog needs its id: drop these rows, or fill it in.",
        )
    return table.set_column(0, key, keys)
