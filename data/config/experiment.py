"""The experiment: the one YAML file a user writes. Every field is checked where it enters."""

import string
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from ..strict import Positive, Strict
from .settings import BadDataConfig, ModelConfig, TextConfig, TrainingConfig

EntityName = Literal["user", "query", "item"]
ENTITIES: tuple[str, ...] = get_args(EntityName)
Split = Literal["train", "validation", "test"]
SPLITS: tuple[str, ...] = get_args(Split)

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]


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
        default="history", description="events column: list of item ids, oldest first, the present event excluded"
    )
    max_length: Positive = Field(default=30, description="ids kept, the newest ones")
    domains: str | None = Field(
        default=None,
        description="events column: list of the names of these items' domains, for encoders of sequences; others count as unknown",
    )
    times: str | None = Field(
        default=None,
        description="events column: list of the times of these items (timestamps, dates or seconds), for model.history.time_bias",
    )
    time: str | None = Field(
        default=None, description="events column: time of the event itself; that of the newest past item when absent"
    )


class TextVectorConfig(Strict):
    """A text vector that is already a column of the events."""

    column: str = Field(description="events column: list<float> or fixed_size_list<float>")
    size: Positive = Field(description="its length")


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
    features: dict[Name, FeatureConfig] = Field(default_factory=dict, description="the sparse aspect")

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

    def comes_from_catalog(self, feature: FeatureConfig) -> bool:
        """Whether a feature of it is read from its catalog rather than from the events."""
        return feature.source == "catalog" or (feature.source is None and self.catalog is not None)

    @property
    def text_columns(self) -> list[str]:
        """Catalog columns the text template names, in order."""
        return [name for _, name, _, _ in string.Formatter().parse(self.text or "") if name]


class UserConfig(EntityConfig):
    """A user: an entity with a past."""

    history: HistoryConfig | None = Field(default=None, description="the user's past items, if the events carry them")


class TaskConfig(Strict):
    """One label of a domain."""

    label: str = Field(description="events column holding 0, 1 or null (null: no label in this row)")
    weight: float = Field(default=1.0, gt=0, description="weight of its loss")
    probability: str | None = Field(
        default=None, description="events column holding the true probability, where one is known (simulations)"
    )


class EventsConfig(Strict):
    """Parquet files of one domain, by split; globs relative to the experiment file."""

    train: str = Field(description="events to learn from")
    validation: str | None = Field(default=None, description="events to choose by")
    test: str | None = Field(default=None, description="events to report on")


class DomainConfig(Strict):
    """One search or recommendation surface."""

    kind: Literal["search", "recommendation"] = Field(
        description="search: every row has a query; recommendation: none has"
    )
    events: EventsConfig = Field(description="the domain's own logs")
    tasks: dict[Name, TaskConfig] = Field(
        default_factory=dict, description="labels to predict; none only where model.next_item is all there is to learn"
    )
    features: dict[Name, DomainFeatureConfig] = Field(default_factory=dict, description="features only this domain has")
    list_column: str | None = Field(
        default=None, description="events column naming the result list of a row; turns on NDCG@10"
    )
    cold: bool = Field(default=False, description="marks a domain with little data, for reports")
    sampling_weight: float = Field(default=1.0, gt=0, description="times its natural share of each training batch")


class EntitiesConfig(Strict):
    """Who and what the events are about."""

    user: UserConfig = Field(description="who asks or looks")
    item: EntityConfig = Field(description="what is shown")
    query: EntityConfig | None = Field(default=None, description="what was asked, in search domains")

    def present(self) -> dict[str, EntityConfig]:
        """The entities this experiment has, by name, in the fixed order user, query, item."""
        return {name: entity for name in ENTITIES if (entity := getattr(self, name)) is not None}

    def with_text(self) -> dict[str, EntityConfig]:
        """Those of them whose texts are embedded into the text store."""
        return {name: entity for name, entity in self.present().items() if entity.text is not None}


class Experiment(Strict):
    """One foundrank experiment."""

    name: Name = Field(description="a short name, used in folders and reports")
    seed: int = Field(default=2026, ge=0, lt=2**63, description="of initial weights and of the order of rows")
    init_from: str | None = Field(
        default=None, description="run folder to fine-tune: its tables and weights are what training begins with"
    )
    only: tuple[Name, ...] = Field(default=(), description="the domains in use; all of them when empty")
    entities: EntitiesConfig = Field(description="user, item and, for search, query")
    context: dict[Name, FeatureConfig] = Field(
        default_factory=dict, description="features of the event, in every domain"
    )
    domains: Annotated[dict[Name, DomainConfig], Field(min_length=1)] = Field(description="the surfaces")
    bad_data: BadDataConfig = Field(
        default_factory=BadDataConfig, description="what becomes of rows that cannot be used"
    )
    text: TextConfig = Field(default_factory=TextConfig, description="the language model behind `text` templates")
    model: ModelConfig = Field(default_factory=ModelConfig, description="the network")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="its training")

    def features(self) -> dict[str, FeatureConfig]:
        """Every feature by name: of entities, of the context and of domains; domains may share one."""
        owners = [*self.entities.present().values(), *self.domains.values()]
        return {name: f for features in (self.context, *(o.features for o in owners)) for name, f in features.items()}
