"""How ids become rows of an embedding table: the settings, and what each way of doing so is."""

from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, model_validator

from ..settings_base import Positive, Strict
from .buckets import Buckets
from .key_counts import ExactCounts, HashedCounts, KeyCounts
from .managed import ManagedCounts, ManagedIds
from .managed_rows import Rules
from .vocabulary import HashedIds, Vocabulary

A_DAY = 86_400.0
"""Seconds."""


class Vocab(Strict):
    """Exact rows, given by the counting pass."""

    min_count: Positive = 1

    def counts(self) -> ExactCounts:
        """Nothing counted yet."""
        return ExactCounts(self.min_count)

    def table_rows(self) -> int | None:
        """Rows of the table, as far as they are known before any counting."""
        return None


class Hash(Strict):
    """A fixed number of rows, however many ids there are."""

    buckets: Positive = 100_000

    def counts(self) -> HashedCounts:
        """Nothing counted yet."""
        return HashedCounts(self.buckets)

    def table_rows(self) -> int | None:
        """Rows of the table, the unknown row (never used) included."""
        return self.buckets + 1


class Managed(Strict):
    """A fixed number of rows, which ids get and give back between increments of the training."""

    rows: Positive = 100_000
    min_count: Positive = 1
    window: Positive = 7
    expire_after: Annotated[float, Field(gt=0)] | None = None

    def counts(self) -> ManagedCounts:
        """Nothing counted yet."""
        seconds = None if self.expire_after is None else self.expire_after * A_DAY
        return ManagedCounts(Rules(self.rows, self.min_count, self.window, seconds))

    def table_rows(self) -> int | None:
        """Rows of the table, that of unknown ids included."""
        return self.rows + 1


ENCODINGS: dict[str, type[Vocab] | type[Hash] | type[Managed]] = {"vocab": Vocab, "hash": Hash, "managed": Managed}
"""Name -> a way of giving ids rows, with its settings."""

TABLES: dict[str, Any] = {table.encoding: table for table in (Vocabulary, HashedIds, ManagedIds, Buckets)}
"""Name, as in a run's statistics -> what ``load`` reads from its folder."""


class Way(Protocol):
    """A way of giving ids, or numbers, rows."""

    def counts(self) -> KeyCounts:
        """Nothing counted yet."""
        ...

    def table_rows(self) -> int | None:
        """Rows of the table, as far as they are known before any counting."""
        ...


class Encoded(Protocol):
    """What has ids, or numbers, that become rows of an embedding table."""

    @property
    def ids(self) -> Way:
        """How they do."""
        ...


class Encoding(Strict):
    """How ids (int64 or string) become rows of an embedding table: a way of `ENCODINGS` and its settings, side by side."""

    encoding: Literal["vocab", "hash", "managed"] = Field(
        default="vocab",
        description="vocab: exact rows from a counting pass over the training events; hash: fixed rows, no pass; "
        "managed: fixed rows, which ids get and give back between increments of the training",
    )
    buckets: Positive | None = Field(default=None, description="hash: rows of the table; 100,000 when absent")
    rows: Positive | None = Field(
        default=None, description="managed: how many ids have a row of their own at most; 100,000 when absent"
    )
    min_count: Positive | None = Field(
        default=None,
        description="vocab: ids seen fewer times in training share the unknown row; managed: likewise within the window; 1 when absent",
    )
    window: Positive | None = Field(
        default=None,
        description="managed: increments of the training in which `min_count` is reached, and in which the count of a row halves; 7 when absent",
    )
    expire_after: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="managed: days of the events' time without its id after which a row is given back; never when absent",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_way(cls, raw: Any) -> Any:
        """What is absent becomes the default, so that a resolved file shows it."""
        chosen = raw.get("encoding", "vocab") if isinstance(raw, dict) else None
        if not isinstance(chosen, str) or chosen not in ENCODINGS:
            return raw
        return {name: setting.default for name, setting in ENCODINGS[chosen].model_fields.items()} | raw

    def without_effect(self) -> dict[str, str]:
        own = ENCODINGS[self.encoding].model_fields
        others = dict.fromkeys(key for way in ENCODINGS.values() for key in way.model_fields if key not in own)
        fit = {key: [name for name, way in ENCODINGS.items() if key in way.model_fields] for key in others}
        return {key: f"encoding: {' or '.join(names)}" for key, names in fit.items()}

    @property
    def ids(self) -> Vocab | Hash | Managed:
        """The way, with its settings."""
        way = ENCODINGS[self.encoding]
        return way(**{name: getattr(self, name) for name in way.model_fields})
