"""The catalog that a user gives beside a plain log: one row per item, its key and what its text is."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from ..arrow.column_types import is_string, plain_table
from ..content_kinds.text_template import render_texts
from ..errors import UserError, nearest
from ..sources.source_files import find_rows, write_table
from ..storage.parquet_memory import READ_ERRORS
from .plain_files import IDS, PARQUET, SEPARATORS

TEXTS = ("brand", "title", "name", "category", "categories", "genres", "description")
"""Columns that a text is made of where none is asked for."""


@dataclass(frozen=True)
class Catalog:
    """Where items are described.

    Attributes:
        path: CSV with a header, or Parquet.
        key: its column of item ids; that of the events when None.
        text: template over its columns; of those `TEXTS` that it has when None.
    """

    path: Path
    key: str | None = None
    text: str | None = None


def write_catalog(folder: Path, catalog: Catalog, item: str, items: pa.Array) -> str | None:
    """Writes the catalog with the events' item column as its key; the template of its text, None where it has none.

    Args:
        folder: the data set's.
        catalog: the one given.
        item: name of the events' item column, which the key gets.
        items: ``[N]`` ids of the events.

    Raises:
        UserError: the file cannot be read, lacks its key or has it twice, an item of the events is not in it, or the template
            does not fit.
    """
    key = catalog.key or item
    table = _read(catalog.path, key)
    where = f"{catalog.path}: column '{key}'"
    if key not in table.column_names:
        raise UserError(where, "is missing", f"{nearest(key, table.column_names)} Name it with --catalog-key.")
    if key != item and item in table.column_names:
        raise UserError(
            f"{catalog.path}: column '{item}'", "is there beside the key", f"Leave it out, or rename '{key}'."
        )
    keys = _like(table[key], items.type, where)
    if keys.null_count or pc.count_distinct(keys).as_py() < len(keys):
        raise UserError(where, "holds an id twice, or none", "Write one row per item, with its id.")
    find_rows(pa.chunked_array([pc.unique(items)]), keys, where, "the catalog, with one row per item of the events")
    at = table.column_names.index(key)
    table = table.set_column(at, item, keys)
    text = catalog.text or " ".join(f"{{{name}}}" for name in TEXTS if name in table.column_names and name != item)
    if text:
        render_texts(text, table.slice(0, 1))
    write_table(folder / "catalogs" / "items.parquet", table)
    return text or None


def _read(path: Path, key: str) -> pa.Table:
    """The catalog, its column of ids as they are written."""
    try:
        if path.suffix == PARQUET:
            return plain_table(pq.ParquetFile(path).read(), keep_dictionaries=False)
        return pc_csv.read_csv(
            path,
            parse_options=pc_csv.ParseOptions(delimiter=SEPARATORS.get(path.suffix, ",")),
            convert_options=pc_csv.ConvertOptions(column_types={key: IDS}),
        )
    except READ_ERRORS as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            path, f"cannot be read ({said})", "Give a catalog as CSV with a header, or as Parquet."
        ) from error


def _like(keys: pa.ChunkedArray, kind: pa.DataType, where: str) -> pa.ChunkedArray:
    """Keys as the ids of the events are."""
    if not (pa.types.is_integer(keys.type) or is_string(keys.type)):
        raise UserError(where, f"is {keys.type}, which is no id", "Write ids as integers or strings.")
    try:
        return keys.cast(kind)
    except pa.ArrowInvalid as error:  # which names the value
        said = str(error).splitlines()[0]
        raise UserError(
            where,
            f"is {keys.type}, and the events' items are {kind} ({said})",
            "Write the items alike in events and catalog.",
        ) from error
