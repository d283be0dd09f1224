"""Where a task's labels come from: a column, or a condition on one."""

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ...arrow.column_need import BadValues, ColumnNeed
from ...arrow.column_types import LABEL, STRING_LABEL, one_array
from ...arrow.ids import is_valid
from ...arrow.values import floats
from ...settings_base import Strict

_EXACT = 2.0**53  # from here on, integers would be rounded
_CONDITIONS = ("at_least", "above", "at_most", "below", "equals", "one_of")


def _infinite(array: pa.Array) -> np.ndarray | None:
    bad = np.isinf(floats(array))
    return bad if bad.any() else None


_FINITE = BadValues(
    _infinite, "an infinite number", "Write null where the value is unknown.", between=(-np.inf, np.inf)
)


class Label(Strict):
    """An events column, or a condition on one that makes labels of 0 and 1.

    `label: clicked` is short for `{column: clicked}`: the label is what the column holds. With a condition the label is 1 where it
    holds and 0 where it does not. Where the column is null (or NaN), there is no label.
    """

    column: str = Field(description="events column")
    at_least: float | None = Field(default=None, description="1 where the column's number is this or more")
    above: float | None = Field(default=None, description="1 where it is more")
    at_most: float | None = Field(default=None, description="1 where it is this or less")
    below: float | None = Field(default=None, description="1 where it is less")
    equals: bool | float | str | None = Field(
        default=None, description="1 where the column holds this number or string"
    )
    one_of: tuple[float | str, ...] | None = Field(
        default=None, min_length=1, description="1 where it holds one of these"
    )

    @model_validator(mode="after")
    def _one_condition(self) -> "Label":
        given = [name for name in _CONDITIONS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"has {' and '.join(given)}; a label has one condition")
        numbers = [value for name in given for value in self._values(name) if not isinstance(value, str)]
        if any(abs(number) >= _EXACT for number in numbers):
            raise ValueError("compares with a number of more than 15 digits, which would be rounded")
        if len({isinstance(value, str) for value in self.one_of or ()}) > 1:
            raise ValueError("one_of has numbers and strings; a column holds one of the two")
        return self

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self) if self.is_condition else self.column

    @property
    def is_condition(self) -> bool:
        """Whether labels are not what the column holds."""
        return any(getattr(self, name) is not None for name in _CONDITIONS)

    def _values(self, condition: str) -> list[Any]:
        value = getattr(self, condition)
        return list(value) if isinstance(value, tuple) else [value]

    @property
    def _accepted(self) -> list[Any]:
        return self._values("one_of" if self.equals is None else "equals")

    @property
    def _of_strings(self) -> bool:
        return isinstance(self._accepted[0], str)

    def need(self, field: str, bad: BadValues | None) -> ColumnNeed:
        """The column and what it must hold.

        Args:
            field: where the experiment describes the label.
            bad: labels that the task's kind does not take. A condition takes any number (or string) there is.
        """
        if not self.is_condition:
            return ColumnNeed(self.column, LABEL, field, bad=bad)
        if self._of_strings:
            return ColumnNeed(self.column, STRING_LABEL, field)
        return ColumnNeed(self.column, LABEL, field, bad=_FINITE)

    def read(self, table: pa.Table) -> NDArray[np.float64]:
        """``[N]`` float64 labels of a table that has the column; NaN where there is none."""
        column = table[self.column]
        if self._of_strings:
            array = one_array(column)
            found = pc.is_in(array.cast(pa.large_string()), value_set=pa.array(self._accepted, pa.large_string()))
            return np.where(is_valid(array), found.to_numpy(zero_copy_only=False), np.nan)
        values = floats(column)
        return np.where(np.isnan(values), np.nan, self._holds(values)) if self.is_condition else values

    def _holds(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        if self.at_least is not None:
            return values >= self.at_least
        if self.above is not None:
            return values > self.above
        if self.at_most is not None:
            return values <= self.at_most
        if self.below is not None:
            return values < self.below
        return np.isin(values, self._accepted)


def _written_out(value: Any) -> Any:
    if not isinstance(value, str | dict | Label):
        raise ValueError("Input should be the name of a column, or a column and a condition")
    return {"column": value} if isinstance(value, str) else value


AnyLabel = Annotated[Label, BeforeValidator(_written_out, json_schema_input_type=str | Label)]
"""Of a field: a column's name is short for a label without a condition."""
