"""A column that is needed: what it must hold, and who asks for it."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa


class BadValues(NamedTuple):
    """Values that cannot be used, in a column of a type that can.

    Attributes:
        find: a column of plain type -> ``[N]`` bool, True for bad ones; None where all are good.
        what: what such a value is, for messages; ``neither 0 nor 1 nor null``.
        remedy: what to do about one. Where it is given, all values are looked at before work starts.
        between: from where to where all integers are good (booleans are 0 and 1), so that what a file says of its least and
            largest may do in place of reading them; None: they are always read.
    """

    find: Callable[[pa.Array], np.ndarray | None]
    what: str
    remedy: str = ""
    between: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class ColumnNeed:
    """One column an experiment reads.

    Attributes:
        name: of the column.
        holds: what it must hold, of those in `column_types`.
        field: the field of the experiment that asks for it.
        size: of a vector.
        optional: whether a file may lack it.
        table: of ids, the embedding table that they have rows in; empty for others.
        beside: a column of lists, beside which this one has as many values in each row; empty: it is beside none.
        bad: which values are bad, where what it holds does not say so yet.
        remedy: what to do where it is missing; empty: another name may be meant.
    """

    name: str
    holds: str
    field: str
    size: int = 0
    optional: bool = False
    table: str = ""
    beside: str = ""
    bad: BadValues | None = dataclasses.field(default=None, compare=False)
    remedy: str = dataclasses.field(default="", compare=False)
