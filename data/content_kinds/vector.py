"""A vector that is already there."""

from typing import Literal

from pydantic import Field

from ..arrow.column_need import ColumnNeed
from ..arrow.column_types import VECTOR
from ..settings_base import Positive
from .content import Content


class Vector(Content):
    """A vector that a column holds; a null, or no such entity in the catalog, is a missing aspect."""

    kind: Literal["vector"] = Field(default="vector", description="may be left out: `vector` tells it")
    vector: str = Field(description="column: list<float> or fixed_size_list<float>")
    size: Positive = Field(description="its number of values")
    source: Literal["catalog", "events"] | None = Field(
        default=None, description="where the column is; the entity's catalog when it has one, else the events"
    )

    def in_catalog(self, has_catalog: bool) -> bool:
        return has_catalog if self.source is None else self.source == "catalog"

    def needs(self, field: str) -> list[ColumnNeed]:
        return [ColumnNeed(self.vector, VECTOR, field, self.size)]
