"""The experiment: the one YAML file a user writes. Every field is checked where it enters."""

import string
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

EntityName = Literal["user", "query", "item"]
ENTITIES: tuple[str, ...] = get_args(EntityName)
Aspect = Literal["id", "text", "sparse"]
ASPECTS: tuple[str, ...] = get_args(Aspect)
Split = Literal["train", "validation", "test"]
SPLITS: tuple[str, ...] = get_args(Split)

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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


class HistoryConfig(Strict):
    """The user's past items."""

    column: str = Field(
        default="history", description="events column: list of item ids, oldest first, the present event excluded"
    )
    max_length: Positive = Field(default=30, description="ids kept, the newest ones")


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
        for name, feature in self.features.items():
            if feature.source == "catalog" and self.catalog is None:
                raise ValueError(f"feature '{name}' has source: catalog, but this entity has no catalog")
        return self

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
    tasks: Annotated[dict[Name, TaskConfig], Field(min_length=1)] = Field(description="labels to predict")
    features: dict[Name, DomainFeatureConfig] = Field(default_factory=dict, description="features only this domain has")
    list_column: str | None = Field(
        default=None, description="events column naming the result list of a row; turns on NDCG@10"
    )
    cold: bool = Field(default=False, description="marks a domain with little data, for reports")
    sampling_weight: float = Field(default=1.0, gt=0, description="times its natural share of each training batch")


class TextConfig(Strict):
    """The frozen language model that embeds texts."""

    encoder: str = Field(default="minilm", description="minilm (shipped, offline), a hub id, or a local folder")
    store: str = Field(default="text_store", description="folder of the text vectors, relative to the experiment file")
    max_length: Positive = Field(default=128, description="tokens per text")
    batch_size: Positive = Field(default=64, description="texts per forward pass")
    pooling: Literal["mean", "cls"] = Field(default="mean", description="how token vectors become one vector")
    normalize: bool = Field(default=True, description="scale each vector to length 1")
    trust_remote_code: bool = Field(
        default=False, description="run code that the encoder's repository brings; only for one you trust"
    )


class ModelConfig(Strict):
    """Widths and variants of the S&R multi-domain foundation."""

    aspects: tuple[Aspect, ...] = Field(
        default=("id", "text", "sparse"), min_length=1, description="views of each entity in use"
    )
    embedding_dim: Positive = Field(default=32, description="width of id and sparse embeddings; a multiple of 4")
    width: Positive = Field(default=64, description="D: width of every aspect and entity vector")
    gate: Literal["mean", "mean_gate", "cls_gate", "domain_gate"] = Field(
        default="domain_gate", description="how aspects are fused"
    )
    interaction: bool = Field(default=True, description="add elementwise products of item with user, query and history")
    id_dropout: Share = Field(
        default=0.1, description="share of training rows whose id aspect is hidden, so the others learn to stand alone"
    )
    domain_width: Positive = Field(default=128, description="width of the domain-adaptive layer's output")
    alignment: Literal["js", "mmd", "none"] = Field(
        default="js", description="penalty on the difference between the domains' distributions"
    )
    alignment_weight: float = Field(default=0.01, ge=0, description="alpha: weight of that penalty")
    head: Literal["mmoe", "shared_bottom", "ple", "star"] = Field(default="mmoe", description="multi-task part")
    experts: Positive = Field(default=4, description="E: shared experts (mmoe, ple)")
    expert_widths: tuple[Positive, ...] = Field(
        default=(128, 64), min_length=1, description="layers of each expert, or of the shared bottom"
    )
    tower_width: Positive = Field(default=32, description="hidden layer of each (domain, task) tower")
    dropout: Share = Field(default=0.1, description="dropout inside experts and towers")

    @model_validator(mode="after")
    def _fbgemm_width(self):
        if self.embedding_dim % 4:
            raise ValueError(f"embedding_dim is {self.embedding_dim}: FBGEMM needs a multiple of 4")
        return self


class TrainingConfig(Strict):
    """How the model is trained."""

    epochs: Positive = Field(default=2, description="passes over the training events")
    max_steps: Positive | None = Field(default=None, description="stop after this many steps, whatever the epochs")
    batch_size: Positive = Field(default=1024, description="rows per rank and step, all domains together")
    learning_rate: float = Field(default=2e-3, gt=0, description="peak learning rate of the dense part (AdamW)")
    weight_decay: float = Field(default=1e-2, ge=0, description="AdamW weight decay of the dense part")
    sparse_learning_rate: float = Field(default=0.02, gt=0, description="peak learning rate of the tables")
    sparse_optimizer: Literal["rowwise_adagrad", "adam", "sgd"] = Field(
        default="rowwise_adagrad", description="fused into the tables' backward"
    )
    warmup_share: Share = Field(default=0.05, description="share of the steps over which learning rates rise from 0")
    final_lr_share: float = Field(
        default=0.05, ge=0, le=1, description="share of the peak left at the last step (cosine decay)"
    )
    gradient_clip: float = Field(default=1.0, gt=0, description="largest L2 norm of the dense gradient")
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="bf16: autocast the dense part")
    sharding: Literal["auto", "table_wise", "column_wise", "row_wise"] = Field(
        default="auto", description="auto: the planner chooses per table"
    )
    shuffle_rows: Positive = Field(default=65_536, description="rows shuffled together; memory per rank grows with it")
    prefetch_batches: Positive = Field(default=4, description="batches read ahead of the model")
    log_every: Positive = Field(default=20, description="steps between lines of metrics.jsonl")
    checkpoint_every: Positive = Field(
        default=1000, description="steps between checkpoints; the last step always has one"
    )
    keep_checkpoints: Positive = Field(default=2, description="newest checkpoints kept")
    keep_best: bool = Field(
        default=True,
        description="evaluate the validation split after each epoch; the best epoch's checkpoint is kept and used",
    )


class EntitiesConfig(Strict):
    """Who and what the events are about."""

    user: UserConfig = Field(description="who asks or looks")
    item: EntityConfig = Field(description="what is shown")
    query: EntityConfig | None = Field(default=None, description="what was asked, in search domains")

    def present(self) -> dict[str, EntityConfig]:
        """The entities this experiment has, by name, in the fixed order user, query, item."""
        return {name: entity for name in ENTITIES if (entity := getattr(self, name)) is not None}


class Experiment(Strict):
    """One foundrank experiment."""

    name: Name = Field(description="a short name, used in folders and reports")
    seed: int = Field(default=2026, ge=0, description="of initial weights and of the order of rows")
    entities: EntitiesConfig = Field(description="user, item and, for search, query")
    context: dict[Name, FeatureConfig] = Field(
        default_factory=dict, description="features of the event, in every domain"
    )
    domains: Annotated[dict[Name, DomainConfig], Field(min_length=1)] = Field(description="the surfaces")
    text: TextConfig = Field(default_factory=TextConfig, description="the language model behind `text` templates")
    model: ModelConfig = Field(default_factory=ModelConfig, description="the network")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="its training")
