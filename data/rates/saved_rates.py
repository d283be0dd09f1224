"""Rates in a run's folder."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ..storage.json_documents import Shape
from .parts import Parts
from .rates import Rates, RateTable

CELLS, VALUES = "rates_cells.npy", "rates_values.npy"
_Number = Annotated[float, Field(allow_inf_nan=False)]


class RatesDocument(Shape):
    """What ``statistics.json`` says of rates.

    Attributes:
        bounds: of the blocks of time; None for folds.
        cells: name of a table -> how many it has in the two files, one table after the other.
        moments: name of a column -> its mean and deviation.
    """

    bounds: list[_Number] | None
    cells: dict[str, Annotated[int, Field(ge=0)]]
    moments: dict[str, tuple[_Number, _Number]]


def save_rates(folder: Path, rates: Rates) -> dict[str, Any]:
    """Writes the tables into ``folder``; the rest, plain, for ``statistics.json``."""
    np.save(folder / CELLS, np.concatenate([table.cells for table in rates.tables.values()]))
    np.save(folder / VALUES, np.concatenate([table.values for table in rates.tables.values()]))
    return {
        "bounds": None if rates.parts.bounds is None else rates.parts.bounds.tolist(),
        "cells": {name: len(table.cells) for name, table in rates.tables.items()},
        "moments": rates.moments,
    }


def load_rates(folder: Path, plain: dict[str, Any]) -> Rates:
    """What `save_rates` wrote; mapped, so that the ranks of a machine share it."""
    cells, values = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in (CELLS, VALUES))
    ends = np.cumsum([0, *plain["cells"].values()])
    tables = {
        name: RateTable(cells[first:last], values[first:last])
        for name, first, last in zip(plain["cells"], ends[:-1], ends[1:], strict=True)
    }
    bounds = None if plain["bounds"] is None else np.array(plain["bounds"])
    moments = {name: (mean, deviation) for name, (mean, deviation) in plain["moments"].items()}
    return Rates(Parts(bounds), tables, moments)
