"""How much memory rows of a Parquet file take, told from its footer before they are read: a few kilobytes can hold gigabytes."""

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import UserError
from . import storage
from .file_systems import Location
from .parquet_footer import values_of_chunks

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
    metadata, schema = file.metadata.row_group(group), file.schema
    rows, stored, wanted, total = metadata.num_rows, metadata.total_byte_size, set(columns), 0.0
    share = 1.0 if at_once is None else min(1.0, at_once / max(rows, 1))
    for position in range(len(schema)):
        column = schema.column(position)
        name = next((name for name in wanted if f"{column.path}.".startswith(f"{name}.")), None)
        if name is None:
            continue
        nested, values = column.max_repetition_level > 0, rows
        if nested:
            try:
                values = values_of_chunks(file.metadata)[group][position]
            except (ValueError, LookupError) as error:
                raise _damaged(where, group) from error
        if min(rows, values, stored) < 0:
            raise _damaged(where, group)
        if column.physical_type == _TEXT:
            size = 4 * values
            if values * stored > MOST_BYTES:  # a long text of the dictionary may be in every row
                size += values * _longest(where, group, column.path, name)
        else:
            width = _WIDTHS.get(column.physical_type) or column.length
            size = width * values
            if nested:
                size = max(size, rows * _fixed(file.schema_arrow.field(name).type) * width)
        # Pages are unpacked one after another, and all of a nested column may be in one row.
        total += (size if nested else size * share) + 4 * rows * share
    return total


def check_footer(metadata: pq.FileMetaData, where: Location) -> None:
    """Makes sure that pyarrow can be asked for the column chunks of a footer.

    Raises:
        UserError: it is damaged.
    """
    try:
        values_of_chunks(metadata)
    except ValueError as error:
        raise UserError(where, "has a damaged footer", "Write the file again.") from error


def _damaged(where: Location, group: int) -> UserError:
    return UserError(f"{where}: row group {group}", "has a damaged footer", "Write the file again.")


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
