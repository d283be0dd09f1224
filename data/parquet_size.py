"""How much memory rows of a Parquet file take, told from its footer before they are read: a few kilobytes can hold gigabytes."""

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from . import storage
from .errors import UserError
from .file_systems import Location

READ_ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, MemoryError)
"""What reading a damaged Parquet file raises."""

MOST_BYTES = 4 << 30
"""Of the columns that are read at once."""

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 8, "FLOAT": 4, "DOUBLE": 8}
_TEXT = "BYTE_ARRAY"


def check_size(
    file: pq.ParquetFile, groups: Iterable[int], columns: Sequence[str], where: Location, at_once: int | None = None
) -> None:
    """Makes sure that row groups' columns fit in memory, one row group at a time.

    Args:
        file: an open one.
        groups: which row groups.
        columns: those that will be read.
        where: the file's location.
        at_once: rows that are read at a time; None: all of a row group.

    Raises:
        UserError: they take more than `MOST_BYTES`, or the footer is damaged.
    """
    for group in groups:
        total = _bytes_of(file, group, columns, where, at_once)
        if total > MOST_BYTES:
            raise UserError(
                f"{where}: row group {group}",
                f"would take {total / 2**30:,.1f} GiB of memory, and {MOST_BYTES / 2**30:g} are the most",
                "Write smaller row groups, e.g. row_group_size=100_000, and no texts of megabytes.",
            )


def _bytes_of(file: pq.ParquetFile, group: int, columns: Sequence[str], where: Location, at_once: int | None) -> float:
    metadata = file.metadata.row_group(group)
    rows, wanted, total = metadata.num_rows, set(columns), 0
    share = 1.0 if at_once is None else min(1.0, at_once / max(rows, 1))
    for position in range(metadata.num_columns):
        chunk = metadata.column(position)
        name = next((name for name in wanted if f"{chunk.path_in_schema}.".startswith(f"{name}.")), None)
        if name is None:
            continue
        values, stored = chunk.num_values, chunk.total_uncompressed_size
        if min(rows, values, stored) < 0:
            raise UserError(f"{where}: row group {group}", "has a damaged footer", "Write the file again.")
        nested = name != chunk.path_in_schema
        if chunk.physical_type == _TEXT:
            size = stored + 4 * values
            if values * stored > MOST_BYTES:  # a long text of the dictionary may be in every row
                size += values * _longest(where, group, chunk.path_in_schema, name)
        else:
            width = _WIDTHS.get(chunk.physical_type) or file.metadata.schema.column(position).length
            size = width * values
            if nested:
                size = max(size, rows * _fixed(file.schema_arrow.field(name).type) * width)
        # Pages are unpacked one after another, and all of a nested column may be in one row.
        total += (size if nested else size * share) + 4 * rows * share
    return total


def _fixed(kind: pa.DataType) -> int:
    """Entries that lists of a fixed size have in each row, be it null."""
    entries = 1
    while pa.types.is_fixed_size_list(kind):
        entries, kind = entries * kind.list_size, kind.value_type
    return entries if entries > 1 else 0


def _longest(where: Location, group: int, path: str, name: str) -> int:
    """Bytes of the longest text in the dictionary of a column; of its rows, one is read."""
    with storage.parquet_file(where, read_dictionary=[path], pre_buffer=False) as file:
        for batch in file.iter_batches(1, [group], [name], use_threads=False):
            values = batch.column(0)
            while not pa.types.is_dictionary(values.type):
                if not hasattr(values, "flatten") or isinstance(values, pa.StructArray):
                    return 0
                values = values.flatten()
            lengths = pc.binary_length(values.dictionary)
            return pc.max(lengths).as_py() or 0
    return 0
