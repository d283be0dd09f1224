"""What is known of an entity or an event, beside its id and its text."""

from typing import Literal

from pydantic import Field, model_validator

from ...strict import Positive, Strict


class Encoding(Strict):
    """How ids (int64 or string) become rows of an embedding table."""

    encoding: Literal["vocab", "hash"] = Field(
        default="vocab",
        description="vocab: exact rows from a counting pass over the training events; hash: fixed rows, no pass",
    )
    buckets: Positive = Field(default=100_000, description="rows of the table when encoding is hash")
    min_count: Positive = Field(default=1, description="vocab: ids seen fewer times in training share the unknown row")


class FeatureConfig(Encoding):
    """One sparse or dense feature."""

    kind: Literal["categorical", "list", "dense", "vector"] = Field(
        description="categorical: one id; list: many ids, pooled; dense: one number, standardised; vector: list<float>"
    )
    column: str | None = Field(default=None, description="column that holds it; the feature's own name when absent")
    source: Literal["catalog", "events"] | None = Field(
        default=None,
        description="where the column is; an entity's features come from its catalog when it has one, else from the events",
    )
    transform: Literal["none", "log1p"] = Field(default="none", description="dense: applied before standardising")
    size: Positive | None = Field(default=None, description="vector: its length (required for vectors)")
    max_length: Positive = Field(default=50, description="list: ids kept per row, the last ones")

    @model_validator(mode="after")
    def _vector_has_size(self):
        if (self.kind == "vector") != (self.size is not None):
            raise ValueError("kind: vector needs `size`, and only a vector has one")
        return self

    @property
    def above(self) -> float | None:
        """What a number must be larger than; None where any finite one will do."""
        return -1.0 if self.transform == "log1p" else None

    def column_name(self, name: str) -> str:
        """The column that holds the feature called ``name``."""
        return self.column or name


class DomainFeatureConfig(FeatureConfig):
    """A feature only this domain's events have; it joins the sparse aspect of one entity, or the context."""

    entity: Literal["user", "query", "item", "context"] = Field(
        default="context", description="the representation this feature belongs to"
    )
