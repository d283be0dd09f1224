"""What encoders get of a catalog's rows, texts above all, read in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..arrow.column_types import is_list
from ..catalogs.catalog import Piece, scan_catalog
from ..config.experiment import Experiment
from ..config.sections.entities import EntityConfig, Stored
from ..content_kinds.content import Embedded, Missing
from ..errors import UserError


@dataclass(frozen=True)
class CatalogInputs:
    """What an encoder gets of each row of a catalog, for one content.

    Attributes:
        of: the content.
        entity: config of the entity.
        content: config of the content.
    """

    of: Stored
    entity: EntityConfig
    content: Embedded

    @classmethod
    def of_experiment(cls, experiment: Experiment, of: Stored) -> "CatalogInputs":
        """Those of an experiment's content."""
        return cls(of, experiment.entities.present()[of.entity], experiment.entities.embedded()[of])

    @property
    def place(self) -> str:
        """The key of the experiment under which the content is described."""
        return f"entities.{self.of.entity}.{self.entity.place_of(self.of.content)}"

    @property
    def settings_at(self) -> str:
        """The key under which the settings of its encoder are."""
        return "text" if self.content.own_encoder is None else self.place

    def check_any(self, had: int, missing: Missing) -> None:
        """Refuses a content of which nothing can be had, though its catalog names some.

        Raises:
            UserError: with the first reason.
        """
        if had == 0 and missing.counts:
            reason, rows = next(iter(missing.counts.items()))
            raise UserError(
                f"{self.place}: {self.content.template!r}",
                f"not one of the {self.content.plural} can be had; {rows:,}: {reason}, first {missing.examples[reason][0]}",
                "Correct what the template and the catalog name, or where it is.",
            )

    def scan(self, within: tuple[int, int] | None = None) -> Iterator[tuple[Piece, pa.Array]]:
        """Reads the catalog piece by piece, with the input of each row, large_string; null where there is none.

        Args:
            within: first and last position of interest, as of `scan_catalog`.

        Raises:
            UserError: a bad catalog, or a text that is not UTF-8.
        """
        for piece in scan_catalog(self.of.entity, self.entity, self.content.columns, within):
            for column in dict.fromkeys(self.content.columns):
                _check_utf8(piece.table[column], column, piece)
            yield piece, self.content.inputs(piece.table)

    def read(self, positions: np.ndarray) -> Iterator[str]:
        """Reads the inputs of some rows, in order; ``[M]`` int64 ascending positions of rows that have one, over all files."""
        if not len(positions):
            return
        for piece, inputs in self.scan((int(positions[0]), int(positions[-1]))):
            low, high = np.searchsorted(positions, [piece.position, piece.position + len(inputs)])
            yield from inputs.take(pa.array(positions[low:high] - piece.position)).to_pylist()


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
