"""Delta Lake tables: which files a version of one has, by its log.

A location ``delta:PATH`` is the current version of the table in a local folder, ``delta:PATH@12`` version 12. Files that a version
has removed stay on the disk until they are vacuumed, so a pattern would name them, too.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from ..errors import UserError, one_line
from .file_systems import Location, is_uri

DELTA = "delta:"
_VERSION = re.compile(r"@(\d{1,18})$")
# What a table may ask of its readers: of those that may change what a file's rows are, there is a check whether they do.
_UNDERSTOOD = {
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "typeWidening",
    "v2Checkpoint",
    "vacuumProtocolCheck",
}


def is_delta(location: Location) -> bool:
    """Whether a location is that of a Delta table."""
    return str(location).startswith(DELTA)


def table_of(location: str) -> tuple[str, int | None]:
    """The table's folder and the version, None where the location names none."""
    found, path = _VERSION.search(location), location.removeprefix(DELTA)
    return (path, None) if found is None else (path[: -len(found[0])], int(found[1]))


def is_table(path: str) -> bool:
    """Whether a folder is that of a table.

    Raises:
        UserError: it is in an object store.
    """
    if is_uri(path):
        what = "is a Delta table in an object store, and they are read on local paths only"
        raise UserError(f"{DELTA}{path}", what, "Mount it, copy it, or write its rows as plain Parquet files.")
    return os.path.isdir(os.path.join(path, "_delta_log"))


def _named(location: str) -> tuple[str, int | None]:
    """As `table_of`, of a location that cannot mean two tables."""
    path, version = table_of(location)
    whole = location.removeprefix(DELTA)
    if version is not None and not is_uri(whole) and is_table(whole):
        what = f"may mean version {version} of '{path}', or the table in the folder '{whole}'"
        raise UserError(location, what, "Name the version of that table, too, as in @3@12, or rename the folder.")
    return path, version


def with_version(location: str) -> str:
    """The location with its version: the current one where it names none.

    Raises:
        UserError: as of `active_files`; there is no table.
    """
    path, version = _named(location)
    if version is not None:
        return location
    if not is_table(path):
        raise UserError(location, f"'{path}' is no Delta table", "Give the folder with _delta_log in it.")
    return f"{location}@{_open(location, path, None).version()}"


def active_files(location: str) -> list[str]:
    """Files of a version of a table, sorted; none where there is no table.

    Raises:
        UserError: the table is not on this machine, has no such version, is damaged, lacks a file, or says in its log which rows or
            columns of a file are meant; or the library that reads logs is not installed.
    """
    path, version = _named(location)
    if not is_table(path):
        return []
    table = _open(location, path, version)
    with _told(location):
        _check_plain(location, table)
        names = [unquote(name) for name in pa.table(table.get_add_actions())["path"].to_pylist()]
    for name in names:
        if "://" in name or os.path.isabs(name) or ".." in name.split("/"):
            raise UserError(
                location, f"names the file {name}, outside its folder", "Copy its rows into a table of their own."
            )
    files = sorted(os.path.join(path, name) for name in names)
    for file in files:
        if not os.path.isfile(file):
            what = f"version {table.version()} has the file {file}, which is not there"
            raise UserError(location, what, "It may have been vacuumed, or lie elsewhere: name another version.")
    return files


def _open(location: str, path: str, version: int | None) -> Any:
    if "%" in path:  # the library takes a%20b for a folder 'a b', which may hold another table
        raise UserError(location, "has a % in its path, which deltalake cannot read", "Rename the folder.")
    try:
        from deltalake import DeltaTable  # an extra, slow to import
    except ImportError:
        what = "is a Delta table, and the library that reads their logs is not installed"
        raise UserError(location, what, "pip install 'foundrank[delta]', or pip install deltalake.") from None
    with _told(location):
        table = DeltaTable(path)
        if version is not None and version > table.version():
            raise UserError(location, f"has no version {version}", f"The current one is {table.version()}.")
        if version is not None:
            table.load_as_version(version)
    return table


@contextmanager
def _told(location: str) -> Iterator[None]:
    """Turns what the library finds wrong into a `UserError`."""
    from deltalake.exceptions import DeltaError  # as above

    try:
        yield
    except (DeltaError, OSError, ValueError) as error:
        what = f"cannot be read as a Delta table ({one_line(error)})"
        raise UserError(location, what, "Name a version whose log is there, or mend the table.") from error


def _check_plain(location: str, table: Any) -> None:
    """Refuses what a reader of the files alone would get wrong."""
    features = set(table.protocol().reader_features or ())
    mapping = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mapping != "none":
        what = f"maps its columns to other names in its files (delta.columnMapping.mode: {mapping})"
        raise UserError(
            location, what, "Write its rows into a table without column mapping, or as plain Parquet files."
        )
    if "deletionVectors" in features and any(batch.num_rows for batch in table.deletion_vectors()):
        what = "has deletion vectors: some rows of its files are deleted"
        raise UserError(location, what, "Run REORG TABLE ... APPLY (PURGE), which writes these files without them.")
    for feature in sorted(features - _UNDERSTOOD):
        what = f"asks its readers for '{feature}', which is not known here"
        raise UserError(location, what, "Write its rows into a table without it, or as plain Parquet files.")
