"""The texts of a catalog, as its template renders them, read in bounded memory."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from ..arrow.column_types import is_list
from ..config.sections.entities import EntityConfig
from ..errors import UserError
from .catalog import Piece, scan_catalog
from .text_template import render_texts


def scan_texts(
    name: str, entity: EntityConfig, within: tuple[int, int] | None = None
) -> Iterator[tuple[Piece, pa.Array]]:
    """Reads a catalog piece by piece, with the text of each row; null where there is none.

    Args:
        name: name of the entity.
        entity: its config.
        within: first and last position of interest, as of `scan_catalog`.

    Raises:
        UserError: a bad catalog, or a text that is not UTF-8.
    """
    assert entity.text is not None
    for piece in scan_catalog(name, entity, entity.text_columns, within):
        for column in dict.fromkeys(entity.text_columns):
            _check_utf8(piece.table[column], column, piece)
        yield piece, render_texts(entity.text, piece.table)


def read_texts(name: str, entity: EntityConfig, positions: np.ndarray) -> Iterator[str]:
    """Reads the texts at some rows of a catalog, in order.

    Args:
        name: name of the entity.
        entity: its config.
        positions: ``[M]`` int64 ascending catalog rows that have a text, counted over all files.
    """
    if not len(positions):
        return
    for piece, texts in scan_texts(name, entity, (int(positions[0]), int(positions[-1]))):
        low, high = np.searchsorted(positions, [piece.position, piece.position + len(texts)])
        yield from texts.take(pa.array(positions[low:high] - piece.position)).to_pylist()


def _check_utf8(column: pa.ChunkedArray, name: str, piece: Piece) -> None:
    """Parquet calls a column text without looking; Arrow's string functions stop at bytes that are none."""
    if _is_utf8(column):
        return
    row = next(row for row in range(len(column)) if not _is_utf8(column.take(pa.array([row]))))
    raise UserError(
        piece.file,
        f"column '{name}' is not UTF-8 in row {piece.row + row} (counting from 0)",
        "Decode it with the encoding it was written in, and write the catalog again.",
    )


def _is_utf8(column: pa.ChunkedArray) -> bool:
    value = column.type.value_type if is_list(column.type) else column.type
    try:
        column.validate(full=True)
        if pa.types.is_binary(value) or pa.types.is_large_binary(value):
            column.cast(pa.large_list(pa.large_string()) if is_list(column.type) else pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True
