"""Who and what the events are about."""

from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import Field, model_validator

from ...content_kinds.codes import Codes
from ...content_kinds.content import Content, Embedded
from ...content_kinds.text import Text
from ...content_kinds.vector import Vector
from ...features.feature import Feature
from ...settings_base import Name, Positive, Seam, Strict
from ...vocabulary.encoding import Encoding
from .bad_data import BadDataConfig
from .features import AnyFeature

EntityName = Literal["user", "query", "item"]
ENTITIES: tuple[str, ...] = get_args(EntityName)
TEXT = "text"
"""Name of the content that `text` and `text_vector` are short for."""
OTHER_ASPECTS = ("id", "sparse")
"""Views of an entity that are no contents."""


class Stored(NamedTuple):
    """A content that has a content store: whose it is, and its name."""

    entity: str
    content: str

    @property
    def name(self) -> str:
        """Of its store; that of the content `text` is the entity's own."""
        return self.entity if self.content == TEXT else f"{self.entity}_{self.content}"

    def __str__(self) -> str:
        return self.entity if self.content == TEXT else f"{self.entity} {self.content}"


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
        default=None,
        description="events column: time of the event itself; the domain's `time` when absent, else that of the newest past item",
    )

    def without_effect(self) -> dict[str, str]:
        return {"time": "times"} if self.times is None else {}


class TextVectorConfig(Strict):
    """A vector that is already a column of the events, as the content `text`."""

    column: str = Field(description="events column: list<float> or fixed_size_list<float>")
    size: Positive = Field(description="its number of values")


class EntityConfig(Encoding):
    """A user, a query or an item: its id, its contents and its features."""

    id: str = Field(description="events column holding the id (int64 or string); a null means no such entity")
    catalog: CatalogConfig | None = Field(default=None, description="table of contents and features, joined by id")
    text: str | None = Field(
        default=None,
        description='template over catalog columns, e.g. "{brand} {title}"; embedded by `foundrank embed`; '
        "short for a content of the name text",
    )
    prompt: str | None = Field(
        default=None,
        description='put before each text, e.g. "query: " or an instruction; the encoder\'s own default when absent',
    )
    text_vector: TextVectorConfig | None = Field(
        default=None, description="text vectors held in the events, in place of `text`"
    )
    contents: dict[Name, Annotated[Content, Seam("contents", by="kind", named_by_key=True)]] = Field(
        default_factory=dict,
        description='its contents, each an aspect of its own name, e.g. title: {text: "{title}"}',
    )
    features: dict[Name, AnyFeature] = Field(default_factory=dict, description="the sparse aspect")

    @model_validator(mode="after")
    def _consistent(self):
        if self.text is not None and self.text_vector is not None:
            raise ValueError("give either `text` or `text_vector`, not both")
        if self.text is None and self.prompt is not None:
            raise ValueError("`prompt` goes before each `text`: give this entity a `text`")
        if TEXT in self.contents and (self.text is not None or self.text_vector is not None):
            raise ValueError("`text` and `text_vector` are short for the content `text`, which is in `contents` too")
        for name, content in self.every_content().items():
            self._check_content(name, content)
        for name, feature in self.features.items():
            if feature.source == "catalog" and self.catalog is None:
                raise ValueError(f"feature '{name}' has source: catalog, but this entity has no catalog")
        return self

    def _check_content(self, name: str, content: Content) -> None:
        field = f"`{self.place_of(name)}`"
        if name in OTHER_ASPECTS:
            raise ValueError(f"{field}: {name} is the name of another aspect; give the content its own")
        if isinstance(content, Embedded):
            if self.catalog is None:
                raise ValueError(f"{field} is a template over catalog columns: give this entity a `catalog`")
            if not content.columns:
                raise ValueError(f'the template {content.template!r} names no column; write e.g. "{{title}}"')
        elif content.in_catalog(self.catalog is not None) and self.catalog is None:
            what = "are of what a catalog lists" if isinstance(content, Codes) else "has source: catalog"
            raise ValueError(f"{field} {what}, but this entity has no catalog")

    def every_content(self) -> dict[str, Content]:
        """All contents by name, those in their short form, too; `text` comes first, the others by name, however the file has them."""
        found: dict[str, Content] = {}
        if self.text is not None:
            found[TEXT] = Text(text=self.text, prompt=self.prompt)
        elif self.text_vector is not None:
            found[TEXT] = Vector(vector=self.text_vector.column, size=self.text_vector.size, source="events")
        return {name: (found | self.contents)[name] for name in sorted({*found, *self.contents}, key=_order)}

    def place_of(self, content: str) -> str:
        """The key, below this entity's, under which a content is described."""
        if content in self.contents:
            return f"contents.{content}"
        return "text" if self.text is not None else "text_vector"

    def content_in_catalog(self, content: Content) -> bool:
        """Whether the columns of a content are its catalog's rather than the events'."""
        return content.in_catalog(self.catalog is not None)

    def given(self, in_catalog: bool) -> dict[str, Vector]:
        """Contents that are vectors in columns of its catalog, or of the events."""
        contents = self.every_content().items()
        return {n: c for n, c in contents if isinstance(c, Vector) and self.content_in_catalog(c) == in_catalog}

    def codes(self) -> dict[str, Codes]:
        """Contents that are codes."""
        return {name: content for name, content in self.contents.items() if isinstance(content, Codes)}

    def comes_from_catalog(self, feature: Feature) -> bool:
        """Whether a feature of it is read from its catalog rather than from the events."""
        return feature.source == "catalog" or (feature.source is None and self.catalog is not None)


class UserConfig(EntityConfig):
    """A user: an entity with a past."""

    history: HistoryConfig | None = Field(default=None, description="the user's past items, if the events carry them")


class EntitiesConfig(Strict):
    """Who and what the events are about."""

    user: UserConfig = Field(description="who asks or looks")
    item: EntityConfig = Field(description="what is shown")
    query: EntityConfig | None = Field(default=None, description="the words searched for, in search domains")

    @model_validator(mode="after")
    def _codes_of_items(self):
        for entity, config in self.present().items():
            for name in config.codes() if entity != "item" else ():
                raise ValueError(f"{entity}.contents.{name} is codes, which items alone have")
        return self

    def present(self) -> dict[str, EntityConfig]:
        """The entities this experiment has, by name, in the fixed order user, query, item."""
        return {name: entity for name in ENTITIES if (entity := getattr(self, name)) is not None}

    def embedded(self) -> dict[Stored, Embedded]:
        """Contents whose vectors ``foundrank embed`` makes."""
        return {
            Stored(entity, name): content
            for entity, config in self.present().items()
            for name, content in config.every_content().items()
            if isinstance(content, Embedded)
        }

    def content_names(self) -> tuple[str, ...]:
        """The names of all contents, of any entity."""
        return tuple(sorted({n for entity in self.present().values() for n in entity.every_content()}, key=_order))


def _order(content: str) -> tuple[bool, str]:
    return content != TEXT, content
