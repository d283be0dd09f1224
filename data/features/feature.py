"""What every kind of feature has, and what it must be able to say."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import pyarrow as pa
from pydantic import Field

from ..arrow.column_need import ColumnNeed
from ..arrow.values import Ragged
from ..settings_base import Strict
from ..vocabulary.encoding import Encoded
from ..vocabulary.key_counts import Table
from .counts import Counts


def feature_key(feature: str) -> str:
    """Name of a feature's ids or vector, as key of the batch and as embedding table."""
    return f"feature_{feature}"


@dataclass(frozen=True)
class Inputs:
    """What a feature is in a batch.

    Attributes:
        singles: keys with at most one id per row, each of an embedding table of its name.
        lists: keys with many ids, pooled to their mean, each of an embedding table of its name -> most ids of a row.
        weighted: those of ``lists`` whose ids have weights, by which the mean counts them.
        encodings: key, of ``singles`` and ``lists`` -> how its ids become rows.
        dense: columns of ``Batch.dense``.
        vectors: names in ``Batch.vectors`` -> size.
    """

    singles: tuple[str, ...] = ()
    lists: Mapping[str, int] = field(default_factory=dict)
    weighted: tuple[str, ...] = ()
    encodings: Mapping[str, Encoded] = field(default_factory=dict)
    dense: tuple[str, ...] = ()
    vectors: Mapping[str, int] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """Of ids, one or many."""
        return (*self.singles, *self.lists)


@dataclass
class FeatureColumns:
    """Features of N rows, of events or of a catalog, encoded.

    Attributes:
        singles: key -> ``[N]`` table rows; -1 where missing.
        lists: key -> ragged table rows.
        weights: key of ``lists`` -> ragged float32, one above 0 for each id, on the mean 1 in each row.
        dense: column of ``Batch.dense`` -> ``[N]`` float32; 0 where missing.
        vectors: name -> ``[N, size]`` float32, zeros where missing, and ``[N]`` bool, where it is there.
    """

    singles: dict[str, np.ndarray] = field(default_factory=dict)
    lists: dict[str, Ragged] = field(default_factory=dict)
    weights: dict[str, Ragged] = field(default_factory=dict)
    dense: dict[str, np.ndarray] = field(default_factory=dict)
    vectors: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def add(self, other: "FeatureColumns") -> None:
        """Takes in further features of the same rows."""
        self.singles |= other.singles
        self.lists |= other.lists
        self.weights |= other.weights
        self.dense |= other.dense
        self.vectors |= other.vectors


class Counted(Protocol):
    """What the counting pass has found."""

    @property
    def tables(self) -> Mapping[str, Table]:
        """Embedding table -> its ids."""
        ...

    @property
    def dense(self) -> Mapping[str, tuple[float, float]]:
        """Column of ``Batch.dense`` -> mean and deviation."""
        ...


class Feature(Strict):
    """One feature: of an entity, of the context or of a domain. A kind adds its settings, and says what is done with them."""

    differs: ClassVar[frozenset[str]] = frozenset({"column", "source"})
    """Settings in which domains that share a feature may differ."""

    kind: str
    column: str | None = Field(default=None, description="column that holds it; the feature's own name when absent")
    source: Literal["catalog", "events"] | None = Field(
        default=None,
        description="where the column is; an entity's features come from its catalog when it has one, else from the events",
    )
    entity: Literal["user", "query", "item", "context"] | None = Field(
        default=None, description="of a domain's feature: the representation it belongs to; context when absent"
    )

    bias: bool = Field(
        default=False,
        description="of the context or of a domain, such as the position on the page: it moves the logits in training "
        "through a tower of its own, and has no part in scores",
    )

    def column_name(self, name: str) -> str:
        """The column that holds the feature called ``name``."""
        return self.column or name

    def column_of(self, name: str, table: pa.Table, where: str) -> tuple[pa.ChunkedArray, str]:
        """That column of a table, and where it is, for messages; ``where`` is the table's own place."""
        column = self.column_name(name)
        return table[column], f"{where}: column '{column}'"

    def meaning(self) -> dict[str, Any]:
        """Of what domains that share a feature must say the same."""
        return self.model_dump(exclude=set(self.differs)) | {"entity": self.entity or "context"}

    @abstractmethod
    def needs(self, name: str, field: str) -> list[ColumnNeed]:
        """What its columns must hold, and which of such values are bad; ``field`` is where the experiment describes it."""

    @abstractmethod
    def inputs(self, name: str) -> Inputs:
        """What it is in a batch."""

    @abstractmethod
    def count(self, name: str, table: pa.Table, where: str, counts: Counts, weights: np.ndarray | None) -> None:
        """Adds N rows of the training data to what is counted.

        Args:
            name: of the feature.
            table: with the columns that it needs.
            where: file and row group, for messages.
            counts: what has been found so far.
            weights: ``[N]``, how often training shows each row of a catalog; None: once.

        Raises:
            UserError: a bad value, with its row.
        """

    @abstractmethod
    def encode(self, name: str, table: pa.Table, where: str, counted: Counted) -> FeatureColumns:
        """N rows, as of `count`, as what `inputs` says that they are in a batch.

        Raises:
            UserError: a bad value, with its row.
        """
