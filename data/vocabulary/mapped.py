"""Vocabularies as they are looked up, in files that the ranks of a machine map into their memory: one copy for all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
from pydantic import Field

from ..errors import UserError
from ..storage.json_documents import Shape
from .key_counts import Table
from .managed import ManagedIds
from .row_counts import RowCounts
from .vocabulary import REMEDY, HashedIds, KeyIndex, Vocabulary

KEYS, ROWS, COUNTS = "lookup_keys.npy", "lookup_rows.npy", "lookup_counts.npy"
_Length = Annotated[int, Field(ge=0)]


class Lookup(Shape):
    """Where a table is in the files, one after the other in the order of the document.

    Attributes:
        smallest: the smallest key, where ``rows`` has an entry for each from it on; None where ``keys`` has them, increasing.
        keys: how many it has in the one file; of hashed ids, the rows that were hit.
        rows: how many it has in the other.
        counts: rows of the table.
        hit: of hashed ids, how many rows were hit; their counts are in the third file. None where those of all rows are.
    """

    smallest: Annotated[int, Field(ge=0, lt=2**64)] | None
    keys: _Length
    rows: _Length
    counts: Annotated[int, Field(ge=1)]
    hit: _Length | None = None


def save_mapped(folder: Path, tables: Mapping[str, Table]) -> dict[str, dict[str, Any]]:
    """Writes vocabularies and counts of hashed ids into ``folder``; what `load_mapped` needs to know beside it, plain."""
    plain: dict[str, dict[str, Any]] = {}
    keys: list[np.ndarray] = [np.zeros(0, np.uint64)]
    rows: list[np.ndarray] = [np.zeros(0, np.int32)]
    counts: list[np.ndarray] = [np.zeros(0, np.int64)]
    for name, table in tables.items():
        hit = None
        if isinstance(table, Vocabulary):
            (smallest, of_keys, of_rows), of_counts = table.index.arrays(), table.counts
        elif isinstance(table, HashedIds):
            smallest, of_keys, of_rows, of_counts = None, table.counts.at, rows[0], table.counts.counts
            hit = len(of_keys)
        else:
            continue  # of a few buckets
        plain[name] = {"smallest": smallest, "keys": len(of_keys), "rows": len(of_rows), "counts": table.rows}
        plain[name] |= {} if hit is None else {"hit": hit}
        for parts, part in ((keys, of_keys), (rows, of_rows), (counts, of_counts)):
            parts.append(part)
    for name, parts in ((KEYS, keys), (ROWS, rows), (COUNTS, counts)):
        np.save(folder / name, np.concatenate(parts))
    return plain


def load_mapped(folder: Path, plain: Mapping[str, Mapping[str, Any]], encodings: Mapping[str, str]) -> dict[str, Table]:
    """The tables that `save_mapped` wrote.

    Args:
        folder: with the files.
        plain: as of `save_mapped`.
        encodings: name of a table -> how its ids are encoded.

    Raises:
        UserError: the files do not fit what is said of them.
    """
    try:
        arrays = [np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in (KEYS, ROWS, COUNTS)]
    except (OSError, ValueError, EOFError) as error:
        raise UserError(folder / KEYS, "cannot be read, or a file beside it", REMEDY) from error
    kinds = [(array.ndim, array.dtype.str) for array in arrays]
    if kinds not in ([(1, "<u8"), (1, rows), (1, "<i8")] for rows in ("<i4", "<i8")) or (arrays[2] < 0).any():
        raise UserError(folder / KEYS, "is damaged: it, or a file beside it, holds other numbers", REMEDY)
    at, tables = [0, 0, 0], dict[str, Table]()
    for name, of in plain.items():
        hit = of.get("hit")
        lengths = (of["keys"], of["rows"], of["counts"] if hit is None else hit)
        ends = [start + length for start, length in zip(at, lengths, strict=True)]
        keys, rows, counts = (np.asarray(array[a:b]) for array, a, b in zip(arrays, at, ends, strict=True))
        at = ends
        encoding, is_dense = encodings.get(name), of["smallest"] is not None
        if encoding == HashedIds.encoding and len(counts) == lengths[2] and of["counts"] > 1:
            tables[name] = cast(Table, HashedIds(_hashed(folder, name, of, keys, counts)))
            continue
        index = KeyIndex.of_arrays(of["smallest"], keys, rows, first=1)
        within = (not len(rows) and not is_dense) or (len(rows) and rows.min() >= 0 and rows.max() < of["counts"])
        fits = len(counts) == of["counts"] and (is_dense or len(keys) == len(rows))
        if encoding not in (Vocabulary.encoding, ManagedIds.encoding) or not within or not fits:
            raise UserError(folder / ROWS, f"is damaged: what it has of '{name}' is no vocabulary", REMEDY)
        if encoding == ManagedIds.encoding:
            table = ManagedIds.mapped(index, counts, folder / f"{name}.parquet")
        else:
            table = Vocabulary.of_index(index, counts)
        tables[name] = cast(Table, table)
    if at != [len(array) for array in arrays]:
        raise UserError(folder / KEYS, "is damaged: it, or a file beside it, is not as long as it should be", REMEDY)
    return tables


def _hashed(folder: Path, name: str, of: Mapping[str, Any], keys: np.ndarray, counts: np.ndarray) -> RowCounts:
    if of.get("hit") is None:  # of versions that kept the counts of all rows
        return RowCounts.of(counts)
    fits = len(keys) == len(counts) and (keys[1:] > keys[:-1]).all() and (not len(keys) or keys[-1] < of["counts"])
    if not fits:
        raise UserError(folder / KEYS, f"is damaged: what it has of '{name}' are no rows", REMEDY)
    return RowCounts(of["counts"], keys, counts)
