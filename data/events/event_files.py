"""Parquet files of a domain: what is in them, and reading one row group at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

from ..arrow.column_need import ColumnNeed
from ..arrow.column_types import plain_table
from ..config.sections.bad_data import BadDataConfig
from ..errors import UserError, one_line
from ..schema.column_needs import IdTypes, SchemaCheck
from ..storage import storage
from ..storage.file_systems import StorageError, is_uri, trouble
from ..storage.globs import expand_glob, nothing_matches
from ..storage.parquet_memory import READ_ERRORS, check_size

_PIECE = 1 << 14  # rows that are read from a local file at once


class Unreadable(UserError):
    """A damaged row group."""


@dataclass(frozen=True)
class EventFiles:
    """The files one glob names, with the rows of each row group; and those set aside, with what is wrong with each."""

    files: tuple[str, ...]
    group_rows: tuple[tuple[int, ...], ...]
    set_aside: tuple[tuple[str, str], ...] = ()

    @property
    def rows(self) -> int:
        """Rows in all files in use."""
        return sum(sum(groups) for groups in self.group_rows)

    @property
    def row_groups(self) -> list[tuple[str, int]]:
        """File and position in it of every row group, in order."""
        pairs = zip(self.files, self.group_rows, strict=True)
        return [(file, group) for file, groups in pairs for group in range(len(groups))]

    def without(self, wrong: Mapping[str, UserError], policy: BadDataConfig) -> "EventFiles":
        """The files but some that cannot be used.

        Raises:
            UserError: the first of theirs, under ``fail`` or where they hold more of the bytes than the policy allows.
            StorageError: one of theirs: that an object store does not answer is not the file's fault.
        """
        for error in wrong.values():
            if isinstance(error, StorageError):
                raise error
        if not wrong:
            return self
        aside = (*self.set_aside, *((file, str(error)) for file, error in wrong.items()))
        share = _bytes(file for file, _ in aside) / max(_bytes((*self.files, *(file for file, _ in self.set_aside))), 1)
        first = next(iter(wrong.values()))
        if not policy.skips:
            raise first
        if share > policy.max_share:
            allowed = (
                f"{share:.2%} of the bytes are in files like it, and bad_data.max_share allows {policy.max_share:.2%}"
            )
            raise UserError(first.where, f"{first.what}; {allowed}", first.remedy)
        kept = [(file, rows) for file, rows in zip(self.files, self.group_rows, strict=True) if file not in wrong]
        return EventFiles(tuple(file for file, _ in kept), tuple(rows for _, rows in kept), aside)


def _bytes(files: Iterable[str]) -> int:
    return sum(storage.sizes(list(files)))


def open_parquet(path: str) -> pq.ParquetFile:
    """An open file with its footer read; the 64 last used stay open, of object stores the 512 last used.

    Raises:
        UserError: it cannot be read as Parquet.
        StorageError: the object store cannot be reached or refuses.
    """
    return (_open_remote if is_uri(path) else _open_local)(path)


def _open(path: str) -> pq.ParquetFile:
    try:
        return storage.parquet_file(path)  # not mapped: pages of the files would count as memory of the process
    except READ_ERRORS as error:
        remedy = "It may be truncated or still being written; write it again, or leave it out of the glob."
        what = f"cannot be read as Parquet ({one_line(error)})"
        raise trouble(path, error) or UserError(path, what, remedy) from error


_open_local, _open_remote = lru_cache(maxsize=64)(_open), lru_cache(maxsize=512)(_open)


def look_again() -> None:
    """Forgets what files were when they were last opened: a job that goes on for days, on files that others write, asks anew."""
    for remembered in (_open_local, _open_remote, _check_size, storage.handle):
        remembered.cache_clear()


def iterate_group(path: str, group: int, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
    """One row group, ``rows`` rows at a time, in the types of the file: some columns are only passed on.

    Raises:
        Unreadable: the row group is damaged.
    """
    try:
        _check_size(path, group, tuple(columns), rows)
        with _own(path) as file:
            for batch in file.iter_batches(rows, [group], list(columns), use_threads=False):
                yield pa.Table.from_batches([batch])
    except READ_ERRORS as error:
        raise _unreadable_group(path, group, error) from error


@lru_cache(maxsize=1 << 16)
def _check_size(path: str, group: int, columns: tuple[str, ...], at_once: int | None = None) -> None:
    """`check_size` once for each row group: in later epochs it is known."""
    check_size(open_parquet(path), [group], columns, path, at_once)


def _own(path: str) -> pq.ParquetFile:
    """The file opened once more: one that stays open keeps the bytes of every row group it has read."""
    return storage.parquet_file(path, metadata=open_parquet(path).metadata)


def list_events(pattern: str, field: str, policy: BadDataConfig) -> EventFiles:
    """The files a glob names; under ``skip``, unreadable ones are set aside.

    Args:
        pattern: an absolute glob.
        field: the experiment's field that gave it, for errors.
        policy: for bad data.

    Raises:
        UserError: no file matches, or one cannot be read.
    """
    files = expand_glob(pattern)
    if not files:
        raise nothing_matches(pattern, field, "Correct it; in an experiment it is relative to the file's folder.")
    groups: list[tuple[int, ...]] = []
    wrong: dict[str, UserError] = {}
    for file in files:
        try:
            metadata = open_parquet(file).metadata
        except UserError as error:
            wrong[file] = error
            groups.append(())
        else:
            groups.append(tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)))
    return EventFiles(tuple(files), tuple(groups)).without(wrong, policy)


def check_columns(
    events: EventFiles,
    needs: Sequence[ColumnNeed],
    policy: BadDataConfig,
    types: IdTypes | None = None,
    schema: Callable[[str], pa.Schema] | None = None,
) -> EventFiles:
    """Checks that every file has the columns needed, in types that agree between the files.

    Args:
        events: the files.
        needs: what they must have.
        policy: for bad data.
        types: of ids, as far as they are known; what the files say is added.
        schema: what columns a file has, where that is more than it says itself.

    Returns:
        The files; under ``skip``, those without that are set aside.

    Raises:
        UserError: naming the file, the column and the field of the experiment that asks for it.
    """
    check = SchemaCheck(needs, {} if types is None else types)
    wrong: dict[str, UserError] = {}
    for file in events.files:
        try:
            check.check(file, schema(file) if schema else open_parquet(file).schema_arrow)
        except UserError as error:
            wrong[file] = error
    return events.without(wrong, policy)


def read_group(path: str, group: int, columns: Sequence[str]) -> pa.Table:
    """One row group, columns in file order and of plain types.

    Raises:
        Unreadable: the row group is damaged.
    """
    try:
        _check_size(path, group, tuple(columns))
        return plain_table(_read(path, group, list(columns)))
    except READ_ERRORS as error:
        raise _unreadable_group(path, group, error) from error


def _read(path: str, group: int, columns: list[str]) -> pa.Table:
    if is_uri(path) or not open_parquet(path).metadata.row_group(group).num_rows:
        with _own(path) as file:
            return file.read_row_group(group, columns=columns, use_threads=False)
    # Pages of all columns a piece after the other: a third of the memory beyond that of the result, in the same time.
    with storage.parquet_file_in_pieces(path, metadata=open_parquet(path).metadata) as file:
        pieces = list(file.iter_batches(_PIECE, [group], columns, use_threads=False))
    return pa.Table.from_batches(pieces).unify_dictionaries()


def _unreadable_group(path: str, group: int, error: Exception) -> UserError:
    """What to say of a row group that cannot be read; an object store that does not answer says nothing of its rows."""
    remedy = "The file is damaged or was replaced while being read; write it again."
    what = f"cannot be read ({one_line(error)})"
    return trouble(path, error) or Unreadable(f"{path}: row group {group}", what, remedy)
