"""Columns that are in the names of folders, as Hive and Spark write them: ``day=2026-11-27/domain=shop/part-0.parquet``."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

import pyarrow as pa

from ...data.errors import UserError
from ...data.events.event_files import open_parquet

_NULL = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"0|-?[1-9]\d{0,17}")
_PLAIN = " !$&'()+,-.;@_~"  # characters that stay as they are in the name of a folder


@dataclass(frozen=True)
class HiveColumns:
    """What the folders of some files say of their rows.

    Attributes:
        of_file: file -> column -> its value in all rows of the file, where the file itself has no such column.
    """

    of_file: Mapping[str, Mapping[str, pa.Scalar]]

    def schema(self, file: str) -> pa.Schema:
        """The columns of a file, with those of its folders behind them."""
        schema = open_parquet(file).schema_arrow
        for name, value in self.of_file.get(file, {}).items():
            schema = schema.append(pa.field(name, value.type))
        return schema


def hive_columns(files: Sequence[str], strings: Collection[str]) -> HiveColumns:
    """The columns in the folders of some files: integers where all values of one are, else strings.

    Args:
        files: their locations.
        strings: columns that are strings whatever they look like.
    """
    found = {file: _values(file) for file in files}
    texts = {
        name
        for of_file in found.values()
        for name, value in of_file.items()
        if name in strings or not (value is None or _INTEGER.fullmatch(value))
    }
    of_file: dict[str, dict[str, pa.Scalar]] = {}
    for file, values in found.items():
        own = open_parquet(file).schema_arrow.names if values else []
        of_file[file] = {
            name: pa.scalar(value, pa.string()) if name in texts else pa.scalar(_number(value), pa.int64())
            for name, value in values.items()
            if name not in own
        }
    return HiveColumns({file: values for file, values in of_file.items() if values})


def folder_name(column: str, value: object) -> str:
    """``column=value``, as a folder is called."""
    return f"{column}={_NULL if value is None else quote(str(value), safe=_PLAIN)}"


def with_columns(table: pa.Table, values: Mapping[str, pa.Scalar]) -> pa.Table:
    """A table with further columns, each of one value."""
    for name, value in values.items():
        table = table.append_column(name, pa.repeat(value, table.num_rows))
    return table


def check_partitions(names: Sequence[str], schema: Callable[[str], pa.DataType | None]) -> None:
    """Makes sure that columns can be in the names of folders.

    Args:
        names: of columns.
        schema: the type of a column of the output; None where there is none.

    Raises:
        UserError: one is not there, named twice, or of a type whose values make no names.
    """
    for name in names:
        kind = schema(name)
        if kind is None or names.count(name) > 1:
            what = "is named twice" if kind is not None else "is no column of the scores"
            raise UserError("--partition-by", f"'{name}' {what}", "Name columns of the input or `domain`, each once.")
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        fine = (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_integer,
            pa.types.is_boolean,
            pa.types.is_date,
        )
        if not any(test(value) for test in fine):
            raise UserError("--partition-by", f"'{name}' is {kind}", "Name columns of strings, integers or dates.")


def _values(file: str) -> dict[str, str | None]:
    """Column -> value, of the folders a file is in."""
    pairs = (part.split("=", 1) for part in file.split("/")[:-1] if "=" in part.lstrip("="))
    return {unquote(name): None if value == _NULL else unquote(value) for name, value in pairs}


def _number(value: str | None) -> int | None:
    return None if value is None else int(value)
