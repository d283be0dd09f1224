"""What importers read and write: checked sources, events and catalogs."""

from collections.abc import Container, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import UserError, nearest
from ..storage.parquet_memory import READ_ERRORS

ROW_GROUP_ROWS = 8192
INTEGER, NUMBER, TEXT, TIME = pa.int64(), pa.float64(), pa.string(), pa.timestamp("us")


def read_source(
    src: Path, files: Mapping[str, Mapping[str, pa.DataType]], nulls: Container[str], home: str
) -> dict[str, pa.Table]:
    """Read the columns an importer needs from the Parquet files of its source.

    Args:
        src: folder with the files.
        files: file name without ``.parquet`` -> column -> its type.
        nulls: columns that may have no value in some rows.
        home: what the source is and where it comes from, for messages.

    Returns:
        File name -> table with exactly those columns, in that order and of these types.

    Raises:
        UserError: the folder, a file or a column is missing, a file is not Parquet, it has no row, or a column holds what its
            type cannot, or nothing where there must be something.
    """
    if not src.is_dir():
        raise UserError(src, "no such folder", f"Give the folder that holds {home}.")
    tables = {}
    for name, columns in files.items():
        path = src / f"{name}.parquet"
        if not path.is_file():
            raise UserError(path, "the file is missing", f"Give the folder that holds {home}.")
        try:
            held = pq.read_schema(path).names
            for column in columns:
                if column not in held:
                    raise UserError(
                        f"{path}: column '{column}'",
                        "is missing",
                        f"{nearest(column, held)} The source must be {home}, column for column.",
                    )
                if held.count(column) > 1:
                    raise UserError(f"{path}: column '{column}'", "is there twice", f"Write it again from {home}.")
            table = pq.ParquetFile(path).read(list(columns)).select(list(columns)).combine_chunks()
        except READ_ERRORS as error:
            raise UserError(path, f"is not a Parquet file ({error})", f"Write it again from {home}.") from error
        if table.num_rows == 0:
            raise UserError(path, "has no row", f"Write it again from {home}.")
        typed = {c: _typed(table[c], kind, c in nulls, f"{path}: column '{c}'", home) for c, kind in columns.items()}
        tables[name] = pa.table(typed).combine_chunks()
    return tables


def _typed(column: pa.ChunkedArray, kind: pa.DataType, nulls: bool, where: str, home: str) -> pa.ChunkedArray:
    """A column as its type.

    Raises:
        UserError: at ``where``: it is not of that type, or has no value in a row that needs one.
    """
    remedy = f"The source must be {home}, column for column."
    try:
        typed = column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        said = str(error).splitlines()[0]
        raise UserError(where, f"is {column.type}, and cannot be read as {kind} ({said})", remedy) from error
    missing = pc.is_null(typed, nan_is_null=True)
    if pc.any(missing).as_py() and not nulls:
        row = pc.index(missing, pa.scalar(True)).as_py()
        raise UserError(f"{where}, row {row}", "has no value", remedy)
    return typed


def write_events(folder: Path, domain: str, split: str, table: pa.Table) -> None:
    """Write one split of one domain as ``events/<domain>/<split>/part-00000.parquet``."""
    write_table(folder / "events" / domain / split / "part-00000.parquet", table)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file, its folders too: zstd, row groups of 8192 rows (the reader shuffles row groups)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP_ROWS)


def encode(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Codes ``[N]`` int64 into the sorted distinct values of a column without nulls, and those values."""
    distinct = pc.unique(column)
    distinct = distinct.take(pc.array_sort_indices(distinct))
    return pc.index_in(column, value_set=distinct).to_numpy().astype(np.int64), distinct


def find_rows(ids: pa.ChunkedArray, keys: pa.ChunkedArray, where: str, home: str) -> np.ndarray:
    """``[N]`` int64: the row of each id among ``keys``.

    Raises:
        UserError: an id is not there; the message starts with ``where``.
    """
    rows = pc.index_in(ids, value_set=pc.drop_null(keys).combine_chunks())
    if rows.null_count:
        missing = ids.filter(pc.is_null(rows))
        raise UserError(
            where,
            f"{len(missing):,} row(s) name an id that the catalog lacks, such as {missing[0].as_py()!r}",
            f"Give the complete files of {home}.",
        )
    return rows.to_numpy().astype(np.int64)
