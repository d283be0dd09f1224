"""Parquet files of a domain: what is in them, and reading one row group at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

from .columns import ColumnNeed, holds, is_list, is_string
from .errors import UserError, nearest
from .load import expand_glob


@dataclass(frozen=True)
class EventFiles:
    """The files one glob names, with the rows of each row group."""

    files: tuple[str, ...]
    group_rows: tuple[tuple[int, ...], ...]

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(sum(groups) for groups in self.group_rows)


@lru_cache(maxsize=64)
def open_parquet(path: str) -> pq.ParquetFile:
    """An open file with its footer read; the 64 last used stay open.

    Raises:
        UserError: it cannot be read as Parquet.
    """
    try:
        return pq.ParquetFile(path)  # not mapped: pages of the files would count as memory of the process
    except (pa.ArrowInvalid, OSError) as error:
        remedy = "It may be truncated or still being written; write it again, or leave it out of the glob."
        raise UserError(path, f"cannot be read as Parquet ({str(error).splitlines()[0]})", remedy) from error


def iterate_group(path: str, group: int, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
    """One row group, ``rows`` rows at a time.

    Raises:
        UserError: the row group is damaged.
    """
    try:
        with _own(path) as file:
            for batch in file.iter_batches(rows, [group], list(columns), use_threads=False):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable_group(path, group, error) from error


def _own(path: str) -> pq.ParquetFile:
    """The file opened once more: one that stays open keeps the bytes of every row group it has read."""
    return pq.ParquetFile(path, metadata=open_parquet(path).metadata)


def list_events(pattern: str, field: str) -> EventFiles:
    """The files a glob names.

    Args:
        pattern: an absolute glob.
        field: the experiment's field that gave it, for errors.

    Raises:
        UserError: no file matches, or one cannot be read.
    """
    files = expand_glob(pattern)
    if not files:
        raise UserError(field, f"no file matches '{pattern}'", "Paths are relative to the experiment file's folder.")
    groups = []
    for file in files:
        metadata = open_parquet(file).metadata
        groups.append(tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)))
    return EventFiles(tuple(files), tuple(groups))


def check_columns(files: Sequence[str], needs: Sequence[ColumnNeed]) -> None:
    """Checks that every file has the columns needed, in types that agree between the files.

    Raises:
        UserError: naming the file, the column and the field of the experiment that asks for it.
    """
    first_kind: dict[str, tuple[str, str]] = {}
    for file in files:
        schema = open_parquet(file).schema_arrow
        for need in needs:
            if need.name not in schema.names:
                raise UserError(
                    f"{file}: column '{need.name}'",
                    f"is missing, and {need.field} asks for it",
                    nearest(need.name, schema.names),
                )
            kind = schema.field(need.name).type
            if not holds(kind, need.holds, need.size):
                wanted = need.holds + (f" of length {need.size}" if need.size else "")
                remedy = "Cast the column when writing the events, or point the field at another column."
                raise UserError(f"{file}: column '{need.name}'", f"is {kind}; {need.field} needs a {wanted}", remedy)
            if need.holds in ("id", "list of ids") and not pa.types.is_null(kind):
                value = kind.value_type if is_list(kind) else kind
                family = "string" if is_string(value) else "integer"
                other, other_file = first_kind.setdefault(need.name, (family, file))
                if other != family:
                    raise UserError(
                        f"{file}: column '{need.name}'",
                        f"holds {family} ids, but {other_file} holds {other} ids",
                        "Write one type: the integer 7 and the string '7' are different ids.",
                    )


def read_group(path: str, group: int, columns: Sequence[str]) -> pa.Table:
    """One row group, columns in file order.

    Raises:
        UserError: the row group is damaged.
    """
    try:
        with _own(path) as file:
            return file.read_row_group(group, columns=list(columns), use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable_group(path, group, error) from error


def _unreadable_group(path: str, group: int, error: Exception) -> UserError:
    """What to say of a row group that cannot be read."""
    remedy = "The file is damaged or was replaced while being read; write it again."
    return UserError(f"{path}: row group {group}", f"cannot be read ({str(error).splitlines()[0]})", remedy)
