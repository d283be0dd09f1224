"""Codes that a catalog has already: a path of names, such as department, category and brand."""

from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field

from ...data.arrow.column_need import ColumnNeed
from ...data.arrow.column_types import SCALAR_ID
from ...data.arrow.ids import id_keys, mix
from ...data.content_kinds.codes import Tokenizer, Values
from ...data.errors import UserError
from .items import Codebook, Items


class Columns(Tokenizer):
    """The values of catalog columns, each within those before it (semantic indexing: Hua et al., How to Index Item IDs, 2023). Which
    number a name gets follows from a hash of it, not from the order of the catalog."""

    method: Literal["columns"] = "columns"
    columns: Annotated[tuple[str, ...], Field(min_length=1, max_length=8)] = Field(
        description="catalog columns of strings or integers, from the whole to the part"
    )
    size: Values = Field(
        default=1024, description="values of each level: as many names as there are below one, at most"
    )

    seeded: ClassVar[bool] = False

    @property
    def values(self) -> tuple[int, ...]:
        return (self.size,) * len(self.columns)

    @property
    def needs(self) -> list[ColumnNeed]:
        return [ColumnNeed(column, SCALAR_ID, "codes.columns") for column in self.columns]

    def fit(self, items: Items) -> Codebook:
        """Of each level, hashes of the paths that there are, ``[P]`` int64, rising, and their numbers ``[P]`` int64."""
        return self.extended({}, items)

    def extended(self, codebook: Codebook, items: Items) -> Codebook:
        """With the paths of further items, whose numbers come after those that are taken."""
        parent, found = np.zeros(len(items), np.uint64), {}
        for level, column in enumerate(self.columns):
            path = _path(parent, items.columns[column])
            held, numbers = (
                codebook.get(f"{what}.{level}", torch.zeros(0, dtype=torch.int64)).numpy()
                for what in ("paths", "numbers")
            )
            held = held.view(np.uint64)
            every, first = np.unique(path, return_index=True)
            above = parent[first]
            new = ~np.isin(every, held)
            above_held = codebook.get(f"above.{level}", torch.zeros(0, dtype=torch.int64)).numpy().view(np.uint64)
            taken = dict(zip(*np.unique(above_held, return_counts=True), strict=True))
            order = np.lexsort((mix(every[new]), above[new]))
            of_new, of_above = every[new][order], above[new][order]
            begins = (
                np.flatnonzero(np.append(True, of_above[1:] != of_above[:-1])) if len(of_above) else np.zeros(0, int)
            )
            place = np.arange(len(of_above)) - np.repeat(begins, np.diff(np.append(begins, len(of_above))))
            place += np.array([taken.get(one, 0) for one in of_above], np.int64)
            if place.size and place.max() >= self.size:
                raise UserError(
                    f"codes.size: {self.size}",
                    f"is fewer than the {place.max() + 1:,} different values of column '{column}' that are below one another",
                    "Set a larger one, or put a coarser column before it.",
                )
            paths, of_path = np.concatenate([held, of_new]), np.concatenate([numbers, place])
            parents = np.concatenate([above_held, of_above])
            by_path = np.argsort(paths)
            for what, values in (("paths", paths), ("above", parents)):
                found[f"{what}.{level}"] = torch.from_numpy(values[by_path].view(np.int64).copy())
            found[f"numbers.{level}"] = torch.from_numpy(of_path[by_path].astype(np.int64))
            parent = path
        return found

    def codes(self, codebook: Codebook, items: Items, at: np.ndarray) -> np.ndarray:
        """``[n, L]`` of items at positions ``[n]``, whose paths are in the codebook."""
        parent, found = np.zeros(len(at), np.uint64), []
        for level, column in enumerate(self.columns):
            parent = _path(parent, items.columns[column].take(pa.array(at)))
            paths = codebook[f"paths.{level}"].numpy().view(np.uint64)
            found.append(codebook[f"numbers.{level}"].numpy()[np.searchsorted(paths, parent)])
        return np.stack(found, 1)


def _path(parent: np.ndarray, column: pa.ChunkedArray) -> np.ndarray:
    """``[n]`` uint64 of what is above, and a name, which may be missing."""
    names = pc.fill_null(column.cast(pa.large_string()), "")
    return mix(parent ^ id_keys(names)[0])
