"""Rates in a run's folder."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ..storage.json_documents import Shape
from .parts import Parts
from .rates import Rates, RateTable
from .so_far import IdSums, RatesSoFar

CELLS, VALUES = "rates_cells.npy", "rates_values.npy"
IDS, SUMS = "rates_ids.npy", "rates_sums.npy"
_Count = Annotated[int, Field(ge=0)]
_Number = Annotated[float, Field(allow_inf_nan=False)]


class SoFarDocument(Shape):
    """What ``statistics.json`` says of what the next increment goes on with.

    Attributes:
        domains: as of `RatesSoFar`.
        tasks: likewise.
        labels: likewise.
        ids: name of a table -> how many it has in the two files, one table after the other.
        priors: name of a table -> as of `IdSums`.
    """

    domains: list[str]
    tasks: list[str]
    labels: list[list[tuple[_Number, _Number, _Number]]]
    ids: dict[str, _Count]
    priors: dict[str, list[list[_Number]]]


class RatesDocument(Shape):
    """What ``statistics.json`` says of rates.

    Attributes:
        bounds: of the blocks of time; None for folds.
        of_increment: whether there is a part of what was learned from before.
        cells: name of a table -> how many it has in the two files, one table after the other.
        moments: name of a column -> its mean and deviation.
        so_far: as of `Rates`.
    """

    bounds: list[_Number] | None
    of_increment: bool = False
    cells: dict[str, _Count]
    moments: dict[str, tuple[_Number, _Number]]
    so_far: SoFarDocument | None = None


def save_rates(folder: Path, rates: Rates) -> dict[str, Any]:
    """Writes the tables into ``folder``; the rest, plain, for ``statistics.json``."""
    np.save(folder / CELLS, np.concatenate([table.cells for table in rates.tables.values()]))
    np.save(folder / VALUES, np.concatenate([table.values for table in rates.tables.values()]))
    plain = {
        "bounds": None if rates.parts.bounds is None else rates.parts.bounds.tolist(),
        "of_increment": rates.parts.of_increment,
        "cells": {name: len(table.cells) for name, table in rates.tables.items()},
        "moments": rates.moments,
    }
    return plain if rates.so_far is None else plain | {"so_far": _save_so_far(folder, rates.so_far)}


def _save_so_far(folder: Path, so_far: RatesSoFar) -> dict[str, Any]:
    np.save(folder / IDS, np.concatenate([table.ids for table in so_far.tables.values()]))
    np.save(folder / SUMS, np.concatenate([table.sums for table in so_far.tables.values()]))
    return {
        "domains": list(so_far.domains),
        "tasks": list(so_far.tasks),
        "labels": so_far.labels.tolist(),
        "ids": {name: len(table.ids) for name, table in so_far.tables.items()},
        "priors": {name: table.priors.tolist() for name, table in so_far.tables.items()},
    }


def load_rates(folder: Path, plain: dict[str, Any]) -> Rates:
    """What `save_rates` wrote; mapped, so that the ranks of a machine share it."""
    cut = _mapped(folder, (CELLS, VALUES), plain["cells"])
    tables = {name: RateTable(cells, values) for name, (cells, values) in cut.items()}
    bounds = None if plain["bounds"] is None else np.array(plain["bounds"])
    moments = {name: (mean, deviation) for name, (mean, deviation) in plain["moments"].items()}
    so_far = None if plain.get("so_far") is None else _load_so_far(folder, plain["so_far"])
    return Rates(Parts(bounds, plain.get("of_increment", False)), tables, moments, so_far)


def _load_so_far(folder: Path, plain: dict[str, Any]) -> RatesSoFar:
    cut = _mapped(folder, (IDS, SUMS), plain["ids"])
    tables = {name: IdSums(ids, sums, np.array(plain["priors"][name])) for name, (ids, sums) in cut.items()}
    return RatesSoFar(tuple(plain["domains"]), tuple(plain["tasks"]), np.array(plain["labels"]), tables)


def _mapped(folder: Path, files: tuple[str, str], lengths: dict[str, int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name of a table -> what it has in two files, one table after the other."""
    one, other = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in files)
    ends = np.cumsum([0, *lengths.values()])
    return {
        name: (one[first:last], other[first:last])
        for name, first, last in zip(lengths, ends[:-1], ends[1:], strict=True)
    }
