"""Slices of rows by a column of the events: by its values where they are few, else by quarters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...data.arrow.ids import id_keys
from ...data.config.sections.bad_data import BadDataConfig
from ...data.errors import UserError, nearest
from ...data.events.event_files import EventFiles, Unreadable, open_parquet, read_group
from ...model.tasks.spread import ALONE, Spread, ranges, total

MOST_VALUES, MOST_NUMBERS, BANDS = 20, 10, 4
"""Of values most get a slice of their own, the others one together; numbers with more distinct values are cut into bands."""
_LONGEST = 60  # characters of a value in a slice's name


@dataclass(frozen=True)
class ColumnSlices:
    """The slices of one column.

    Attributes:
        names: of the slices.
        codes: ``[N]`` which of them each row is in; -1 in a domain without the column.
    """

    names: Sequence[str]
    codes: NDArray[np.int16]

    def masks(self, at: NDArray | slice = slice(None)) -> dict[str, NDArray[np.bool_]]:
        """Slice -> whether each of the rows ``at`` some positions, or where a mask says so, is in it."""
        codes = self.codes[at]
        return {name: codes == code for code, name in enumerate(self.names)}


def check_slices(columns: Sequence[str], files: Mapping[str, EventFiles]) -> None:
    """Makes sure that rows can be sliced by some columns.

    Raises:
        UserError: no domain's events have one, some files of a domain lack it, or its type has no order and no few values.
    """
    schemas = {file: open_parquet(file).schema_arrow for of in files.values() for file in of.files}
    for column in columns:
        there = [file for file, schema in schemas.items() if column in schema.names]
        if not there:
            known = sorted({name for schema in schemas.values() for name in schema.names})
            raise UserError("--slices", f"no domain's events have a column '{column}'", nearest(column, known))
        for domain, of in files.items():
            lacking = [file for file in of.files if column not in schemas[file].names]
            if lacking and len(lacking) < len(of.files):
                what = f"has no column '{column}', which other files of {domain} have"
                raise UserError(f"--slices: {lacking[0]}", what, "Write it into all of them, or leave it out.")
        for file in there:
            if not _can_be_sliced(_plain(schemas[file].field(column).type)):
                what = f"'{column}' is {schemas[file].field(column).type} in {file}"
                raise UserError("--slices", what, "Slice by numbers, texts, dates or booleans.")


def read_slices(
    columns: Sequence[str],
    files: Mapping[str, EventFiles],
    domains: Sequence[str],
    policy: BadDataConfig,
    share: Mapping[str, range] | None = None,
    spread: Spread = ALONE,
) -> list[ColumnSlices]:
    """The slices of some columns, over rows in the order of `predict`'s: by domain, and within it in the order of its files.

    Names and bands are those of all ranks' rows; the codes are of this rank's.

    Args:
        columns: as of `check_slices`.
        files: domain -> files.
        domains: in order.
        policy: for rows that cannot be read, of which every value is missing.
        share: domain -> which of its rows are this rank's; None: all are.
        spread: how rows are spread over ranks.
    """
    if share is None:
        share = {domain: range(of.rows) for domain, of in files.items()}
    return [_slices(column, files, domains, policy, share, spread) for column in columns]


def _slices(
    column: str,
    files: Mapping[str, EventFiles],
    domains: Sequence[str],
    policy: BadDataConfig,
    share: Mapping[str, range],
    spread: Spread,
) -> ColumnSlices:
    pieces: list[pa.ChunkedArray | int] = []  # rows of a domain without the column are counted
    for domain in domains:
        if domain in files and domain in share:
            pieces += _pieces(column, files[domain], share[domain], policy)
    known = [piece for piece in pieces if not isinstance(piece, int)]
    kind = _kind_of_all({piece.type for piece in known}, spread)
    known = [piece.cast(kind) for piece in known]
    names, found = _coded(column, pa.chunked_array([chunk for piece in known for chunk in piece.chunks], kind), spread)
    codes, at = [], 0
    for piece in pieces:
        rows = piece if isinstance(piece, int) else len(piece)
        codes.append(np.full(rows, -1, np.int16) if isinstance(piece, int) else found[at : at + rows])
        at += 0 if isinstance(piece, int) else rows
    return ColumnSlices(names, np.concatenate([np.zeros(0, np.int16), *codes]))


def _pieces(column: str, of: EventFiles, mine: range, policy: BadDataConfig) -> list[pa.ChunkedArray | int]:
    """The values of some of a domain's rows, or how many have none as their file has no such column, row group by row group."""
    out: list[pa.ChunkedArray | int] = []
    begins = 0
    for file, groups in zip(of.files, of.group_rows, strict=True):
        has = column in open_parquet(file).schema_arrow.names
        for group, rows in enumerate(groups):
            first, last = max(mine.start - begins, 0), min(mine.stop - begins, rows)
            begins += rows
            if first < last:
                out.append(_read(file, group, column, rows, policy)[first:last] if has else last - first)
    return out


def _kind_of_all(kinds: set[pa.DataType], spread: Spread) -> pa.DataType:
    """The type that all values have, or can be read as: in one domain a number is whole, in another it is not."""
    every = {kind for of_rank in spread.told(kinds) for kind in of_rank if not pa.types.is_null(kind)}
    if len(every) > 1:
        return pa.float64() if all(map(_is_number, every)) else pa.string()
    return next(iter(every), pa.null())


def _read(file: str, group: int, column: str, rows: int, policy: BadDataConfig) -> pa.ChunkedArray:
    try:
        return read_group(file, group, [column])[column]
    except Unreadable:
        if not policy.skips:
            raise
        return pa.chunked_array([pa.nulls(rows)])


def _coded(column: str, values: pa.ChunkedArray, spread: Spread) -> tuple[list[str], NDArray[np.int16]]:
    """Names of slices, and which of them each value is in; what is missing is in the last one."""
    if _is_float(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    missing, known = values.is_null().to_numpy(), values.drop_null()
    bands = None
    if _is_number(values.type) or pa.types.is_temporal(values.type):
        bands = _by_bands(column, known, spread)
    names, of_known = bands or _by_values(column, known, spread)
    codes = np.full(len(values), len(names), np.int16)
    codes[~missing] = of_known
    return _each_once([*names, f"{column} missing"]), codes


def _by_values(column: str, known: pa.ChunkedArray, spread: Spread) -> tuple[list[str], NDArray]:
    counted = pc.value_counts(known)
    values, counts, distinct = _counts_of_all(counted.field("values"), counted.field("counts").to_numpy(), spread)
    # What is among the commonest of all is among the commonest of each rank that has it.
    by_count = pa.table({"count": counts, "text": _texts(values)})
    keys = [("count", "descending"), ("text", "ascending")]
    at = pc.select_k_unstable(by_count, MOST_VALUES, keys)
    mine = dict(zip(values.take(at).to_pylist(), counts[at.to_numpy()].tolist(), strict=True))
    every = {value: count for of_rank in spread.told(mine) for value, count in of_rank.items()}
    commonest = sorted(every, key=lambda value: (-every[value], str(value)))[:MOST_VALUES]
    kept = sorted(commonest, key=lambda value: (isinstance(value, str | bytes), value))
    names = [f"{column}={value}" for value in _told(kept)]
    codes = pc.index_in(known, pa.array(kept, known.type)).fill_null(len(kept)).to_numpy()
    return names + ([f"{column}=(other)"] if distinct > len(kept) else []), codes


def _counts_of_all(values: pa.Array, counts: NDArray[np.int64], spread: Spread) -> tuple[pa.Array, NDArray, int]:
    """This rank's distinct values, how many rows of all ranks have each, and how many distinct values all ranks have."""
    keys, _ = id_keys(_texts(values))
    (came, of_each), back = spread.by_group(keys, counts)
    distinct, of_row = np.unique(came, return_inverse=True)
    sums = np.bincount(of_row, of_each, len(distinct)).astype(np.int64)
    return values, back(sums[of_row]), int(total(np.array([len(distinct)]), spread)[0])


def _texts(values: pa.Array) -> pa.Array:
    """Values in words, of which there are few unless they are texts."""
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if any(of(values.type) for of in kinds):
        return values.cast(pa.large_string())
    return pa.array([str(value) for value in values.to_pylist()], pa.large_string())


def _by_bands(column: str, known: pa.ChunkedArray, spread: Spread) -> tuple[list[str], NDArray] | None:
    """Slices of about as many rows each; None where few numbers are distinct."""
    numbers = known
    if pa.types.is_temporal(known.type):
        numbers = known.cast(pa.int32() if known.type.bit_width == 32 else pa.int64())
    elif pa.types.is_decimal(known.type):
        numbers = known.cast(pa.float64())
    array = numbers.to_numpy()
    own, counts = np.unique(array, return_counts=True)
    (ordered, sizes), _ = ranges(own, counts, spread=spread)
    everyone = spread.each(np.array([len(ordered), sizes.sum()]))
    distinct, rows = everyone.sum(0).tolist()
    if distinct <= MOST_NUMBERS:
        return None
    ends = everyone[: spread.rank, 1].sum() + np.cumsum(sizes)
    at = np.searchsorted(ends, [rows * part // BANDS - 1 for part in range(1, BANDS)], side="right")
    # The first rank that comes so far has it; ranks after it begin with larger ones.
    reached = spread.told([ordered[place] if place < len(ordered) else None for place in at.tolist()])
    edges = np.unique([next(edge for edge in of_ranks if edge is not None) for of_ranks in zip(*reached, strict=True)])
    below_largest, largest = np.concatenate(spread.told(ordered[-2:]))[-2:]
    edges = edges[edges < largest]
    if not len(edges):  # most have the largest value
        edges = np.array([below_largest])
    places = [np.flatnonzero(array == edge)[:1] for edge in edges]
    first = spread.told([known.take(pa.array(place)).to_pylist() for place in places])
    told = _told([next(value for found in of_ranks for value in found) for of_ranks in zip(*first, strict=True)])
    names = [f"{column}<={told[0]}"]
    names += [f"{low}<{column}<={high}" for low, high in pairwise(told)]
    return [*names, f"{column}>{told[-1]}"], np.searchsorted(edges, array, side="left")


def _told(values: Sequence[object]) -> list[str]:
    """Values in words: floats with six digits, or all where those do not tell them apart; texts may be cut."""
    if all(isinstance(value, float) for value in values):
        short = [f"{value:g}" for value in values]
        return short if len(set(short)) == len(short) else [repr(value).removesuffix(".0") for value in values]
    texts = (value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values)
    return [text[:_LONGEST] for text in texts]


def _each_once(names: Sequence[str]) -> list[str]:
    """Names as they are, a number after one that is there before: values that were cut, or that are called as other slices are."""
    out: dict[str, None] = {}
    for name in names:
        free = (f"{name} #{number}" for number in count(2))
        out[name if name not in out else next(other for other in free if other not in out and other not in names)] = (
            None
        )
    return list(out)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_float(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or _is_float(kind) or pa.types.is_decimal(kind)


def _can_be_sliced(kind: pa.DataType) -> bool:
    texts = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_boolean,
        pa.types.is_null,
    )
    dates = pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind)
    return _is_number(kind) or dates or any(one(kind) for one in texts)
