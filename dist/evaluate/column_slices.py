"""Slices of rows by a column of the events: by its values where they are few, else by quarters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...data.config.sections.bad_data import BadDataConfig
from ...data.errors import UserError, nearest
from ...data.events.event_files import EventFiles, Unreadable, open_parquet, read_group

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
    columns: Sequence[str], files: Mapping[str, EventFiles], domains: Sequence[str], policy: BadDataConfig
) -> list[ColumnSlices]:
    """The slices of some columns, over rows in the order of `predict`'s: by domain, and within it in the order of its files.

    Args:
        columns: as of `check_slices`.
        files: domain -> files.
        domains: in order.
        policy: for rows that cannot be read, of which every value is missing.
    """
    return [_slices(column, files, domains, policy) for column in columns]


def _slices(
    column: str, files: Mapping[str, EventFiles], domains: Sequence[str], policy: BadDataConfig
) -> ColumnSlices:
    pieces: list[pa.ChunkedArray | int] = []  # rows of a domain without the column are counted
    for domain in domains:
        of = files.get(domain)
        for file, groups in zip(of.files, of.group_rows, strict=True) if of is not None else ():
            has = column in open_parquet(file).schema_arrow.names
            for group, rows in enumerate(groups):
                pieces.append(_read(file, group, column, rows, policy) if has else rows)
    known = [piece for piece in pieces if not isinstance(piece, int)]
    types = {piece.type for piece in known if not pa.types.is_null(piece.type)}
    if len(types) > 1:  # in one domain a number is whole, in another it is not
        kind = pa.float64() if all(map(_is_number, types)) else pa.string()
        known = [piece.cast(kind) for piece in known]
    elif types:
        known = [piece.cast(next(iter(types))) for piece in known]
    values = pa.chunked_array([chunk for piece in known for chunk in piece.chunks], *([] if known else [pa.null()]))
    names, found = _coded(column, values)
    codes, at = [], 0
    for piece in pieces:
        rows = piece if isinstance(piece, int) else len(piece)
        codes.append(np.full(rows, -1, np.int16) if isinstance(piece, int) else found[at : at + rows])
        at += 0 if isinstance(piece, int) else rows
    return ColumnSlices(names, np.concatenate([np.zeros(0, np.int16), *codes]))


def _read(file: str, group: int, column: str, rows: int, policy: BadDataConfig) -> pa.ChunkedArray:
    try:
        return read_group(file, group, [column])[column]
    except Unreadable:
        if not policy.skips:
            raise
        return pa.chunked_array([pa.nulls(rows)])


def _coded(column: str, values: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int16]]:
    """Names of slices, and which of them each value is in; what is missing is in the last one."""
    if _is_float(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    missing = values.is_null().to_numpy()
    distinct = len(pc.unique(values.drop_null()))
    ordered = _is_number(values.type) or pa.types.is_temporal(values.type)
    names, of_known = _by_bands(column, values) if ordered and distinct > MOST_NUMBERS else _by_values(column, values)
    codes = np.full(len(values), len(names), np.int16)
    codes[~missing] = of_known
    return _each_once([*names, f"{column} missing"]), codes


def _by_values(column: str, values: pa.ChunkedArray) -> tuple[list[str], NDArray]:
    known = values.drop_null()
    counted = [(entry["values"], entry["counts"]) for entry in pc.value_counts(known).to_pylist()]
    by_count = [value for value, _ in sorted(counted, key=lambda pair: (-pair[1], str(pair[0])))]
    kept = sorted(by_count[:MOST_VALUES], key=lambda value: (isinstance(value, str | bytes), value))
    names = [f"{column}={value}" for value in _told(kept)]
    codes = pc.index_in(known, pa.array(kept, known.type)).fill_null(len(kept)).to_numpy()
    return names + ([f"{column}=(other)"] if len(by_count) > len(kept) else []), codes


def _by_bands(column: str, values: pa.ChunkedArray) -> tuple[list[str], NDArray]:
    known = values.drop_null()
    numbers = known
    if pa.types.is_temporal(known.type):
        numbers = known.cast(pa.int32() if known.type.bit_width == 32 else pa.int64())
    elif pa.types.is_decimal(known.type):
        numbers = known.cast(pa.float64())
    array = numbers.to_numpy()
    ordered = np.sort(array)
    edges = np.unique(ordered[[len(ordered) * part // BANDS - 1 for part in range(1, BANDS)]])
    edges = edges[edges < ordered[-1]]
    if not len(edges):  # most have the largest value
        edges = ordered[ordered < ordered[-1]][-1:]
    told = _told(known.take(pa.array([int(np.argmax(array == edge)) for edge in edges])).to_pylist())
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
