"""Who and what the events are about."""

import string
from typing import Literal, get_args

from pydantic import Field, model_validator

from ...features.feature import Feature
from ...settings_base import Name, Positive, Strict
from ...vocabulary.encoding import Encoding
from .bad_data import BadDataConfig
from .features import AnyFeature

EntityName = Literal["user", "query", "item"]
ENTITIES: tuple[str, ...] = get_args(EntityName)


class CatalogConfig(Strict):
    """A Parquet table with one row per entity."""

    path: str = Field(description="Parquet file or glob, relative to the experiment file")
    key: str = Field(description="the column holding the entity's id, unique in the catalog")
    bad_data: BadDataConfig | None = Field(
        default=None, description="policy for this catalog's rows; the experiment's when absent"
    )

    @property
    def policy(self) -> BadDataConfig:
        """What becomes of its bad rows."""
        return self.bad_data or BadDataConfig()


class HistoryConfig(Strict):
    """The user's past items."""

    column: str = Field(
        default="history", description="events column: list of item ids, oldest first, without the current event"
    )
    max_length: Positive = Field(default=30, description="ids kept, the newest ones")
    domains: str | None = Field(
        default=None,
        description="events column: list of the domain names of these items, for sequence encoders; other names count as unknown",
    )
    times: str | None = Field(
        default=None,
        description="events column: list of the times of these items (timestamps, dates or seconds), for model.history.time_bias",
    )
    time: str | None = Field(
        default=None, description="events column: time of the event itself; that of the newest past item when absent"
    )

    def without_effect(self) -> dict[str, str]:
        return {"time": "times"} if self.times is None else {}


class TextVectorConfig(Strict):
    """A text vector that is already a column of the events."""

    column: str = Field(description="events column: list<float> or fixed_size_list<float>")
    size: Positive = Field(description="its number of values")


class EntityConfig(Encoding):
    """A user, a query or an item: its id, its text and its features."""

    id: str = Field(description="events column holding the id (int64 or string); a null means no such entity")
    catalog: CatalogConfig | None = Field(default=None, description="table of texts and features, joined by id")
    text: str | None = Field(
        default=None, description='template over catalog columns, e.g. "{brand} {title}"; embedded by `foundrank embed`'
    )
    prompt: str | None = Field(
        default=None,
        description='put before each text, e.g. "query: " or an instruction; the encoder\'s own default when absent',
    )
    text_vector: TextVectorConfig | None = Field(
        default=None, description="text vectors held in the events, in place of `text`"
    )
    features: dict[Name, AnyFeature] = Field(default_factory=dict, description="the sparse aspect")

    @model_validator(mode="after")
    def _consistent(self):
        if self.text is not None:
            if self.catalog is None:
                raise ValueError("`text` is a template over catalog columns: give this entity a `catalog`")
            if self.text_vector is not None:
                raise ValueError("give either `text` or `text_vector`, not both")
            if not self.text_columns:
                raise ValueError(f'the template {self.text!r} names no column; write e.g. "{{title}}"')
        elif self.prompt is not None:
            raise ValueError("`prompt` goes before each `text`: give this entity a `text`")
        for name, feature in self.features.items():
            if feature.source == "catalog" and self.catalog is None:
                raise ValueError(f"feature '{name}' has source: catalog, but this entity has no catalog")
        return self

    def comes_from_catalog(self, feature: Feature) -> bool:
        """Whether a feature of it is read from its catalog rather than from the events."""
        return feature.source == "catalog" or (feature.source is None and self.catalog is not None)

    @property
    def text_columns(self) -> list[str]:
        """Catalog columns the text template names, in order."""
        return [name for _, name, _, _ in string.Formatter().parse(self.text or "") if name]


class UserConfig(EntityConfig):
    """A user: an entity with a past."""

    history: HistoryConfig | None = Field(default=None, description="the user's past items, if the events carry them")


class EntitiesConfig(Strict):
    """Who and what the events are about."""

    user: UserConfig = Field(description="who asks or looks")
    item: EntityConfig = Field(description="what is shown")
    query: EntityConfig | None = Field(default=None, description="the words searched for, in search domains")

    def present(self) -> dict[str, EntityConfig]:
        """The entities this experiment has, by name, in the fixed order user, query, item."""
        return {name: entity for name in ENTITIES if (entity := getattr(self, name)) is not None}

    def with_text(self) -> dict[str, EntityConfig]:
        """Those of them whose texts are embedded into the text store."""
        return {name: entity for name, entity in self.present().items() if entity.text is not None}
