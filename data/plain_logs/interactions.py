"""A table of who took what and when, turned into a next-item experiment, or with labels into one that ranks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UserError
from ..sources.histories_and_negatives import HISTORY_LENGTH
from ..storage.new_folder import new_folder
from .item_catalog import Catalog
from .labelled import write_labelled
from .next_item import Imported, write_next_item
from .plain_files import files_of, ids, read_columns, refuse_nulls
from .plain_log import TEMPORAL, PlainLog, in_order

LIKED = "liked"
"""The label that is made of a rating."""


@dataclass(frozen=True)
class Columns:
    """Which column is what, and what makes a label of one.

    Attributes:
        user, item, time: names.
        label: 0, 1 or null; None: there is none.
        rating: a number; None: there is none.
        liked_from: the lowest rating that counts as 1.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"
    label: str | None = None
    rating: str | None = None
    liked_from: float | None = None

    def options(self) -> dict[str, str]:
        """Column -> the option that names it."""
        named = {"--user": self.user, "--item": self.item, "--time": self.time, "--label": self.label}
        return {column: option for option, column in (named | {"--rating": self.rating}).items() if column is not None}


def import_interactions(
    source: Path,
    out: Path,
    seed: int = 2026,
    *,
    columns: Columns,
    split: str = TEMPORAL,
    max_length: int | None = None,
    unseen_items: float = 0.0,
    catalog: Catalog | None = None,
) -> Imported:
    """Turn a table of interactions into events, split and with histories, and an experiment.

    Without labels the experiment asks for the next item. With ``label`` or ``rating`` it ranks: each row is an example, and
    histories hold what was liked. Times are timestamps, dates, ISO strings or numbers, of which only the order counts. Rows
    of one user at one time have the order of the file; none is in another's history. Equal rows count once.

    Args:
        source: CSV with a header or Parquet, or a folder of one kind.
        out: folder to write; new or empty.
        seed: of the items held out; also the experiment's.
        columns: which is what.
        split: ``temporal``: 80, 10 and 10 % of the rows by time; ``leave-one-out``: each user's last two are held out.
        max_length: past items of a row, the newest ones; when None, 50 of the next item and 30 of labels.
        unseen_items: share of the items that training and validation do not ask for, and pasts in training do not hold.
        catalog: of the items.

    Raises:
        UserError: a file cannot be read, a column is missing, of a wrong type or without a value, an item is not in the catalog,
            a split has no row, or ``out`` is not empty.
    """
    _check(columns)
    labelled = columns.label is not None or columns.rating is not None
    with new_folder(Path(out), last="experiment.yaml") as folder:
        log = _read(Path(source), columns)
        if labelled:
            label = columns.label or LIKED
            told = write_labelled(folder, log, label, split, seed, max_length or HISTORY_LENGTH, unseen_items, catalog)
        else:
            told = write_next_item(folder, log, split, "interactions", seed, max_length or 50, unseen_items, catalog)
    return Imported(Path(out) / "experiment.yaml", told)


def _check(columns: Columns) -> None:
    if columns.label is not None and columns.rating is not None:
        raise UserError("--label and --rating", "are both given", "Give one of them.")
    if (columns.rating is None) != (columns.liked_from is None):
        raise UserError(
            "--rating and --liked-from",
            "go together",
            "Name the column of ratings, and the lowest one that counts as liked.",
        )
    named = [c for c in (columns.user, columns.item, columns.time, columns.label, columns.rating) if c is not None]
    if twice := {name for name in named if named.count(name) > 1}:
        raise UserError(f"column '{min(twice)}'", "is named for two things", "Give each option a column of its own.")
    for made in ("history", *([LIKED] if columns.rating is not None else [])):
        if made in named:
            raise UserError(f"column '{made}'", "has the name of a column that is made", "Rename it.")


def _read(source: Path, columns: Columns) -> PlainLog:
    option_of = columns.options()
    table = read_columns(files_of(source), list(option_of), option_of, (columns.user, columns.item))
    for name in (columns.user, columns.item, columns.time):
        refuse_nulls(table[name], f"{source}: column '{name}'")
    user, users = ids(table[columns.user], f"{source}: column '{columns.user}'")
    item, items = ids(table[columns.item], f"{source}: column '{columns.item}'")
    time = _times(table[columns.time], f"{source}: column '{columns.time}'")
    moment = np.unique(time.cast(pa.int64()) if pa.types.is_timestamp(time.type) else time, return_inverse=True)[1]
    held = {
        columns.user: users.take(pa.array(user)),
        columns.item: items.take(pa.array(item)),
        columns.time: time,
        **_labels(table, columns, str(source)),
    }
    steps, held = in_order(user, item, moment, held)
    first = _first_of_equals(steps, [held[name] for name in held if name in (columns.label, columns.rating)])
    told = () if first.all() else (f"left out {int((~first).sum()):,} rows that are equal to an earlier one",)
    kept = np.flatnonzero(first)
    held = {name: values.take(pa.array(kept)) for name, values in held.items()}
    return PlainLog(steps.take(kept), held, columns.user, columns.item, columns.time, told)


def _times(column: pa.ChunkedArray, where: str) -> pa.Array:
    """Times as timestamps in microseconds, or the numbers they are."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        try:
            return column.cast(pa.timestamp("us")).combine_chunks()
        except pa.ArrowInvalid as error:
            said = str(error).splitlines()[0]
            raise UserError(
                where, f"is no time ({said})", "Write times as ISO 8601, as numbers or as timestamps."
            ) from error
    if not (
        pa.types.is_timestamp(column.type) or pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    ):
        raise UserError(where, f"is {column.type}", "Write times as ISO 8601, as numbers or as timestamps.")
    return column.combine_chunks()


def _labels(table: pa.Table, columns: Columns, source: str) -> dict[str, pa.Array]:
    """The label's column, and the rating's.

    Raises:
        UserError: a label is not 0, 1 or null, or a rating is no number.
    """
    if columns.label is not None:
        where, held = f"{source}: column '{columns.label}'", table[columns.label].combine_chunks()
        try:
            numbers = held.cast(pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(
                where, f"is {held.type}", "A label is 0, 1 or null; of a number make one with --rating."
            ) from error
        bad = pc.fill_null(pc.invert(pc.is_in(numbers, value_set=pa.array([0.0, 1.0]))), False)
        bad = pc.and_(bad, pc.is_valid(numbers))
        if pc.any(bad).as_py():
            row = pc.index(bad, pa.scalar(True)).as_py()
            raise UserError(
                f"{where}, row {row}",
                f"holds {held[row].as_py()!r}",
                "A label is 0, 1 or null; of a number make one with --rating.",
            )
        return {columns.label: numbers.cast(pa.int8())}
    if columns.rating is None:
        return {}
    where, held = f"{source}: column '{columns.rating}'", table[columns.rating].combine_chunks()
    refuse_nulls(table[columns.rating], where)
    if not (pa.types.is_integer(held.type) or pa.types.is_floating(held.type)):
        raise UserError(where, f"is {held.type}", "A rating is a number.")
    liked = pc.greater_equal(held, pa.scalar(columns.liked_from, pa.float64()))
    return {columns.rating: held, LIKED: liked.cast(pa.int8())}


def _first_of_equals(steps, values: list[pa.Array]) -> np.ndarray:
    """``[N]`` bool, False for a row that says what an earlier one says."""
    codes = [pc.fill_null(value.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False) for value in values]
    codes = [np.nan_to_num(code, nan=np.inf) for code in codes]
    order = np.lexsort((*codes, steps.item, steps.moment, steps.user))  # stable: the first one stays
    sorted_columns = [column[order] for column in (steps.user, steps.moment, steps.item, *codes)]
    same = np.all([column[1:] == column[:-1] for column in sorted_columns], axis=0)
    first = np.ones(len(steps), bool)
    first[order[1:][same]] = False
    return first
