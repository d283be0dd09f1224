"""The files of a part: written whole, with one schema in all parts, and with the numbers of their summary."""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...data.errors import UserError
from ...data.storage import storage
from .hive_columns import folder_name
from .output_folder import DONE, SUCCESS
from .statistics import merged
from .work_list import Part, WorkList

_STATISTICS = b"foundrank.statistics"
_AT_ONCE = 8  # footers that are read
_TOGETHER = 64  # parts whose statistics are held one by one


def unfinished(work: WorkList) -> list[Part]:
    """Those parts that are not there yet; a job that has any is no success."""
    there = storage.names(storage.join(work.folder, DONE) if work.writing.partition_by else work.folder)
    todo = [part for part in work.parts if _told_by(work, part) not in there]
    if todo:
        storage.remove(storage.join(work.folder, SUCCESS))
    return todo


def write_part(work: WorkList, part: Part, table: pa.Table, statistics: Mapping[str, Any]) -> None:
    """Writes a part, whole or not at all: one file, or one in the folder of each value of ``partition_by``, and what tells that
    all are there.
    """
    table, told = _conformed(table, work.types), json.dumps(statistics)
    if not work.writing.partition_by:
        _write(table, storage.join(work.folder, part.name), told)
        return
    for folder, rows in _by_folder(table, work.writing.partition_by):
        _write(rows, storage.join(work.folder, *folder, part.name), None)
    storage.write(storage.join(work.folder, DONE, _told_by(work, part)), told.encode())


def statistics_of_parts(work: WorkList) -> list[dict[str, Any]]:
    """What `write_part` was told of each part, several parts together: a part's may take 100 KB."""

    def of(part: Part) -> dict[str, Any]:
        if work.writing.partition_by:
            told = storage.read(storage.join(work.folder, DONE, _told_by(work, part)))
        else:
            with storage.parquet_file(storage.join(work.folder, part.name)) as file:
                told = (file.metadata.metadata or {}).get(_STATISTICS)
        if told is None:
            where = storage.join(work.folder, part.name)
            raise UserError(where, "says nothing of its scores", "Delete it, and run the command again.")
        return json.loads(told)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        every = (work.parts[start : start + _TOGETHER] for start in range(0, len(work.parts), _TOGETHER))
        return [merged(list(pool.map(of, parts))) for parts in every]


def _told_by(work: WorkList, part: Part) -> str:
    """Name of the file that says that a part is done."""
    return part.name.replace(".parquet", ".json") if work.writing.partition_by else part.name


def _conformed(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The table with the columns that are passed on as all parts have them: of these types, null where a file lacks one."""
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for name, kind in types.items():
        if name not in table.column_names:
            columns[name] = pa.nulls(table.num_rows, kind)
        else:
            columns[name] = table[name] if table[name].type == kind else table[name].cast(kind)
    rest = {name: table[name] for name in table.column_names if name not in types}
    return pa.table({**columns, **rest})


def _by_folder(table: pa.Table, names: Sequence[str]) -> Iterable[tuple[list[str], pa.Table]]:
    """Folders, and the rows that belong there, without the columns that the folders' names hold."""
    if not table.num_rows:
        return
    codes = np.zeros(table.num_rows, np.int64)
    values = []
    for name in names:
        column = table[name].combine_chunks()
        column = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        encoded = pc.dictionary_encode(column, null_encoding="encode")
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        values.append(encoded.dictionary.to_pylist())
        codes = codes * len(values[-1]) + encoded.indices.to_numpy()
    rest = table.drop_columns(list(names))
    for code in np.unique(codes):
        left, folder = int(code), []
        for name, of_name in zip(reversed(names), reversed(values), strict=True):
            left, at = divmod(left, len(of_name))
            folder.append(folder_name(name, of_name[at]))
        yield folder[::-1], rest.filter(pa.array(codes == code))


def _write(table: pa.Table, path: str, told: str | None) -> None:
    content = pa.BufferOutputStream()
    # Scores hardly repeat: without a dictionary of them a part is smaller, and written in half the time.
    nested = any(pa.types.is_nested(kind) for kind in table.schema.types)  # whose columns have other names in a file
    repeating = [column.name for column in table.schema if not pa.types.is_floating(column.type)]
    with pq.ParquetWriter(content, table.schema, compression="zstd", use_dictionary=nested or repeating) as writer:
        writer.write_table(table)
        if told is not None:
            writer.add_key_value_metadata({_STATISTICS.decode(): told})
    storage.write(path, content.getvalue())
