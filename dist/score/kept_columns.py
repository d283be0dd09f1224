"""Columns of a job's input that its output has too: their names and their types."""

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
from pyarrow import types

from ...data.arrow.column_types import plain_type
from ...data.errors import UserError
from ...data.events.event_files import EventFiles, open_parquet


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


def common_types(files: EventFiles, passed_on: Mapping[str, str]) -> dict[str, pa.DataType]:
    """Name -> the type that holds a column's values in all files, of columns that have not one type in all of them.

    Args:
        files: the input's.
        passed_on: names of columns -> what asks for them.

    Raises:
        UserError: no type holds the values of two files as they are.
    """
    found: dict[str, pa.DataType] = {}
    for name, field in passed_on.items():
        kinds: dict[pa.DataType, str] = {}
        for file in files.files:
            schema = open_parquet(file).schema_arrow
            if name in schema.names:
                kinds.setdefault(schema.field(name).type, file)
        if len(kinds) < 2:
            continue
        (first, where), *others = kinds.items()
        common = plain_type(first)
        for kind, file in others:
            both = _wider(common, plain_type(kind))
            if both is None:
                what = f"is {kind}, but {first} in {where}, and {field} passes it on: the output has one type"
                raise UserError(f"{file}: column '{name}'", what, "Write all files with one type, or name one file.")
            common = both
        found[name] = common
    return found


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
