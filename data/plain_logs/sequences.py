"""A file of one sequence per user, oldest first, turned into a next-item experiment."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..arrow.column_types import is_list
from ..arrow.values import ragged_lists
from ..errors import UserError
from ..sources.next_item_rows import Steps
from ..storage.new_folder import new_folder
from .item_catalog import Catalog
from .next_item import Imported, write_next_item
from .plain_files import PARQUET, SEPARATORS, files_of, ids, read_columns, read_lines, refuse_nulls
from .plain_log import LEAVE_ONE_OUT, PlainLog

USER, ITEM = "user_id", "item_id"


def import_sequences(
    source: Path,
    out: Path,
    seed: int = 2026,
    *,
    items: str = "items",
    users: str | None = USER,
    max_length: int = 50,
    unseen_items: float = 0.0,
    catalog: Catalog | None = None,
) -> Imported:
    """Turn sequences into a next-item experiment: each user's last item is the test, the one before validation.

    A line of text is a user, then that user's items, oldest first, with whitespace between them; in .csv files commas, in .tsv
    files tabs. There is no header; blank lines are skipped. A Parquet file has a column of lists and may have one of users. Ids
    that are all plain whole numbers become integers, others stay strings. A user of fewer than three items is all training, and
    of fewer than two nothing.

    Args:
        source: a file, or a folder of files of one kind.
        out: folder to write; new or empty.
        seed: of the items held out; also the experiment's.
        items: Parquet: the column of lists.
        users: Parquet: the column of users; None: sequences have no user, and are numbered.
        max_length: past items of a row, the newest ones.
        unseen_items: share of the items that training and validation do not ask for, and pasts in training do not hold.
        catalog: of the items.

    Raises:
        UserError: a file cannot be read, a line or list holds an empty id, a user comes twice, an item is not in the catalog, no
            user has enough items, or ``out`` is not empty.
    """
    with new_folder(Path(out), last="experiment.yaml") as folder:
        log = _read(Path(source), items, users)
        told = write_next_item(folder, log, LEAVE_ONE_OUT, "sequences", seed, max_length, unseen_items, catalog)
    return Imported(Path(out) / "experiment.yaml", told)


def _read(source: Path, items: str, users: str | None) -> PlainLog:
    files = files_of(source)
    where = str(source)
    if files[0].suffix == PARQUET:
        found, lengths, owners = _of_lists(files, items, users)
    else:
        found, lengths, owners = _of_lines(files, users is not None)
    if owners is None:
        owner, names = np.arange(len(lengths)), pa.array(np.arange(len(lengths)))
    else:
        owner, names = ids(owners, f"{where}: users")
        counts = np.bincount(owner)
        if len(owner) and counts.max() > 1:
            twice = int(np.argmax(counts))
            raise UserError(
                f"{where}: user {names[twice].as_py()!r}",
                f"has {counts[twice]} lines",
                "Write one line per user. If lines have no user, say --no-user.",
            )
    item, distinct = ids(found, f"{where}: items")
    user = np.repeat(owner, lengths)
    order = np.argsort(user, kind="stable")
    steps = Steps(user, item, np.arange(len(user))).take(order)
    columns = {USER: names.take(pa.array(steps.user)), ITEM: distinct.take(pa.array(steps.item))}
    return PlainLog(steps, columns, USER, ITEM, None)


def _of_lines(files: list[Path], with_users: bool) -> tuple[pa.ChunkedArray, np.ndarray, pa.ChunkedArray | None]:
    """Items of all lines, how many each line has, and each line's user."""
    items, lengths, users = [], [np.zeros(0, np.int64)], []
    for file in files:
        passed = 0
        for chunk in read_lines(file).chunks:
            words, counts = _words(chunk, SEPARATORS.get(file.suffix), file, passed)
            passed += len(chunk)
            if with_users:
                first = np.cumsum(counts) - counts
                is_item = np.ones(len(words), bool)
                is_item[first] = False
                users.append(words.take(pa.array(first)))
                words, counts = words.filter(pa.array(is_item)), counts - 1
            items.append(words)
            lengths.append(counts)
    owners = pa.chunked_array(users, pa.string()) if with_users else None
    return _some(pa.chunked_array(items, pa.string()), files), np.concatenate(lengths), owners


def _words(lines: pa.Array, separator: str | None, file: Path, passed: int) -> tuple[pa.Array, np.ndarray]:
    """The ids of lines that are not blank, and how many each has; ``passed`` lines of the file came before."""
    lines = pc.utf8_trim_whitespace(lines)
    held = pc.not_equal(lines, "")
    number = np.flatnonzero(held.to_numpy(zero_copy_only=False)) + passed + 1
    lines = lines.filter(held)
    lists = pc.utf8_split_whitespace(lines) if separator is None else pc.split_pattern(lines, separator)
    words, counts = pc.utf8_trim_whitespace(lists.flatten()), pc.list_value_length(lists).to_numpy()
    if (empty := pc.index(words, pa.scalar("")).as_py()) >= 0:
        line = number[np.searchsorted(np.cumsum(counts), empty, side="right")]
        raise UserError(
            f"{file}, line {line}", "has an empty id between two separators", "Write the id, or take a separator out."
        )
    return words, counts


def _of_lists(
    files: list[Path], items: str, users: str | None
) -> tuple[pa.ChunkedArray, np.ndarray, pa.ChunkedArray | None]:
    """As `_of_lines`, of Parquet files."""
    option_of = {items: "--items", **({users: "--user"} if users else {})}
    table = read_columns(files, list(option_of), option_of)
    where = f"{files[0].parent}: column '{items}'"
    if not is_list(table[items].type):
        raise UserError(where, f"is {table[items].type}", "It must be a list of items per row; name it with --items.")
    refuse_nulls(table[items], where)
    values, offsets = ragged_lists(table[items])
    found = pa.chunked_array([values])
    refuse_nulls(found, f"{where}, all lists together")
    if users:
        refuse_nulls(table[users], f"{files[0].parent}: column '{users}'")
    return _some(found, files), np.diff(offsets), table[users] if users else None


def _some(items: pa.ChunkedArray, files: list[Path]) -> pa.ChunkedArray:
    if not len(items):
        raise UserError(files[0], "holds no item", "Give a file with one sequence per user.")
    return items
