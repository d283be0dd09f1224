"""Columns of a job's input that its output has too: their names and their types."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from pyarrow import types

from ...data.arrow.column_types import plain_type
from ...data.errors import UserError
from .hive_columns import HiveColumns


def check_names_apart(passed_on: Mapping[str, str], own: Iterable[str]) -> None:
    """Makes sure that no column of the input is overwritten in the output.

    Args:
        passed_on: names of columns -> what asks for them.
        own: columns that the job writes.

    Raises:
        UserError: one of the input's columns has the name of one of the job's own.
    """
    for name in own:
        if name in passed_on:
            raise UserError(
                passed_on[name], f"'{name}' is the name of a column that is written here", "Rename that of the input."
            )


def common_types(
    files: Sequence[str], late: Sequence[str], hive: HiveColumns, passed_on: Mapping[str, str]
) -> dict[str, pa.DataType]:
    """Name -> the type that holds a column's values in all files, of the columns that are passed on and that any file has.

    Args:
        files: those that say what the output is like.
        late: those that came when that was settled.
        hive: columns in the names of their folders.
        passed_on: names of columns -> what asks for them.

    Raises:
        UserError: no type holds the values of two files as they are, or one that is late has others.
    """
    found: dict[str, pa.DataType] = {}
    schemas = {file: hive.schema(file) for file in (*files, *late)}
    for name, field in passed_on.items():
        kinds: dict[pa.DataType, str] = {}
        for file in files:
            if name in schemas[file].names:
                kinds.setdefault(schemas[file].field(name).type, file)
        common = _of_all(name, field, kinds) if kinds else None
        for file in late:
            if name in schemas[file].names:
                kind = schemas[file].field(name).type
                if common is None or (kind != common and _wider(plain_type(common), plain_type(kind)) != common):
                    here = f"has {common}" if common is not None else "does not have the column"
                    what = f"is {kind}, but {field} passes it on, and the output that is there {here}"
                    raise UserError(
                        f"{file}: column '{name}'", what, "Write it as before, or score all with --overwrite."
                    )
        if common is not None:
            found[name] = common
    return found


def _of_all(name: str, field: str, kinds: Mapping[pa.DataType, str]) -> pa.DataType:
    """The type that holds the values of several, each of which a file has."""
    (first, where), *others = kinds.items()
    if not others:
        return first
    common = plain_type(first)
    for kind, file in others:
        both = _wider(common, plain_type(kind))
        if both is None:
            what = f"is {kind}, but {first} in {where}, and {field} passes it on: the output has one type"
            raise UserError(f"{file}: column '{name}'", what, "Write all files with one type, or name one file.")
        common = both
    return common


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The one of two plain types that holds the values of both; None where neither does."""
    for narrow, wide in ((one, other), (other, one)):
        if narrow == wide or types.is_null(narrow) or (narrow, wide) in _WIDER:
            return wide
        if types.is_integer(narrow) and types.is_integer(wide):
            least, most = np.iinfo(narrow.to_pandas_dtype()), np.iinfo(wide.to_pandas_dtype())
            if most.min <= least.min and least.max <= most.max:
                return wide
        if types.is_floating(narrow) and types.is_floating(wide) and narrow.bit_width <= wide.bit_width:
            return wide
    return None


_WIDER = {(pa.string(), pa.large_string()), (pa.binary(), pa.large_binary())}
