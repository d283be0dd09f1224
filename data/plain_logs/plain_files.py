"""Files of a plain log: a text, CSV or Parquet file or a folder of one kind, read column by column."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from ..arrow.column_types import is_string, plain_table
from ..errors import UserError, nearest
from ..sources.source_files import encode
from ..storage.parquet_memory import READ_ERRORS

SEPARATORS = {".csv": ",", ".tsv": "\t"}
PARQUET = ".parquet"
IDS = pa.string()
"""What ids in CSV files are read as: 007 and 7 are two of them."""
_BLOCK = 64 << 20  # bytes of text read at a time; a line must fit
_WHOLE = r"^(0|-?[1-9][0-9]{0,17})$"  # a number that is written in one way only
_NO_VALUE = pa.array([value for value in pc_csv.ConvertOptions().null_values if value])
_NOWHERE = "\x01"  # separates nothing: a line is one value


def files_of(source: Path) -> list[Path]:
    """The files that a source is: itself, or a folder's by name.

    Raises:
        UserError: there is none, or they are of several kinds.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(source, "no such file or folder", "Give a text, CSV or Parquet file, or a folder of them.")
    files = sorted(file for file in source.iterdir() if file.is_file() and not file.name.startswith((".", "_")))
    if not files:
        raise UserError(source, "holds no file", "Give a text, CSV or Parquet file, or a folder of them.")
    if len(kinds := sorted({file.suffix for file in files})) > 1:
        raise UserError(source, f"holds files of several kinds ({', '.join(kinds)})", "Keep one kind in the folder.")
    return files


def read_lines(file: Path) -> pa.ChunkedArray:
    """``[N]`` strings, the lines of a text file as they are.

    Raises:
        UserError: it is no text in UTF-8, or a line is longer than 64 MB.
    """
    try:
        table = pc_csv.read_csv(
            file,
            pc_csv.ReadOptions(column_names=["line"], block_size=_BLOCK),
            pc_csv.ParseOptions(delimiter=_NOWHERE, quote_char=False, ignore_empty_lines=False),
            pc_csv.ConvertOptions(column_types={"line": pa.string()}, strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            return pa.chunked_array([], pa.string())
        raise UserError(
            file, f"cannot be read as text ({_said(error)})", "Write it as UTF-8, one line per user."
        ) from error
    return table["line"]


def read_columns(
    files: list[Path], columns: list[str], option_of: Mapping[str, str], of_ids: Collection[str] = ()
) -> pa.Table:
    """The named columns of CSV files with a header, or of Parquet files.

    Args:
        files: of one kind.
        columns: their names, those of the option that names each in ``option_of``.
        option_of: column -> option.
        of_ids: those of them that CSV files hold as `IDS`, for `ids` to tell numbers from strings.

    Raises:
        UserError: a file cannot be read, lacks a column or has it twice, or the files do not agree on a column's type.
    """
    parts = []
    for file in files:
        names = _names(file)
        for column in columns:
            if names.count(column) != 1:
                told = "is missing" if column not in names else "is there twice"
                raise UserError(
                    f"{file}: column '{column}'", told, f"{nearest(column, names)} Name it with {option_of[column]}."
                )
        try:
            if file.suffix == PARQUET:
                part = pq.ParquetFile(file).read(columns).select(columns)
            else:
                part = pc_csv.read_csv(
                    file,
                    pc_csv.ReadOptions(block_size=_BLOCK),
                    pc_csv.ParseOptions(delimiter=SEPARATORS.get(file.suffix, ",")),
                    pc_csv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(of_ids, IDS)),
                )
        except READ_ERRORS as error:
            raise UserError(file, f"cannot be read ({_said(error)})", "Mend or remove what is named.") from error
        part = plain_table(part, keep_dictionaries=False)
        parts.append(pa.table({name: _wide(part[name], f"{file}: column '{name}'") for name in columns}))
    for file, part in zip(files, parts, strict=True):
        for column in columns:
            kind, first = part.schema.field(column).type, parts[0].schema.field(column).type
            if kind != first:
                raise UserError(
                    f"{file}: column '{column}'", f"is {kind}, and {first} in {files[0].name}", "Write all alike."
                )
    table = pa.concat_tables(parts)
    if not table.num_rows:
        raise UserError(files[0], "has no row", "Give a file with events.")
    return table


def refuse_nulls(column: pa.ChunkedArray, where: str) -> None:
    """Raises a UserError at ``where`` and the row for a value that is missing or no number."""
    missing = pc.is_null(column, nan_is_null=True)
    if pc.any(missing).as_py():
        row = pc.index(missing, pa.scalar(True)).as_py()
        raise UserError(f"{where}, row {row}", "has no value", "Leave such rows out, or write what they stand for.")


def ids(column: pa.ChunkedArray, where: str) -> tuple:
    """Codes ``[N]`` int64 of ids, and the distinct ids ``[codes]``: int64, or strings where any is no plain whole number.

    Raises:
        UserError: at ``where``: they are neither integers nor strings, a string is empty, or all are whole numbers but for what
            stands for no value, such as NA.
    """
    if not (pa.types.is_integer(column.type) or is_string(column.type)):
        raise UserError(where, f"is {column.type}, which is no id", "Write ids as integers or strings.")
    codes, distinct = encode(column)
    if pa.types.is_integer(column.type):
        return codes, distinct.cast(pa.int64())
    if len(distinct) and distinct[0].as_py() == "":
        row = pc.index(column, pa.scalar("", column.type)).as_py()
        raise UserError(f"{where}, row {row}", "is an empty string", "Leave such rows out, or give them an id.")
    whole = pc.match_substring_regex(distinct, _WHOLE)
    if pc.all(whole).as_py():  # in the order of numbers, as integers of Parquet files are
        numbers = distinct.cast(pa.int64()).to_numpy()
        order = np.argsort(numbers)
        return np.argsort(order)[codes], pa.array(numbers[order])
    others = distinct.filter(pc.invert(whole))
    if len(others) < len(distinct) and pc.all(pc.is_in(others, value_set=_NO_VALUE)).as_py():
        row = pc.index(column, others[0].cast(column.type)).as_py()
        raise UserError(
            f"{where}, row {row}",
            f"holds {others[0].as_py()!r} among whole numbers",
            "Leave such rows out, or write what they stand for.",
        )
    return codes, distinct.cast(pa.string())


def _names(file: Path) -> list[str]:
    try:
        if file.suffix == PARQUET:
            return pq.read_schema(file).names
        with pc_csv.open_csv(
            file, parse_options=pc_csv.ParseOptions(delimiter=SEPARATORS.get(file.suffix, ","))
        ) as reader:
            return reader.schema.names
    except READ_ERRORS as error:
        raise UserError(
            file, f"cannot be read ({_said(error)})", "Give a CSV file with a header, or Parquet."
        ) from error


def _wide(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """A column as the one type for those that say the same."""
    kind = column.type
    try:
        if pa.types.is_integer(kind):
            return column.cast(pa.int64())
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return column.cast(pa.float64())
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return column.cast(pa.timestamp("us"), safe=False)  # nanoseconds lose their last digits
    except pa.ArrowInvalid as error:
        raise UserError(
            where, f"holds a value that is too large ({_said(error)})", "Write it as 64-bit integers."
        ) from error
    return column


def _said(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
