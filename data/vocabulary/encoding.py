"""How ids become rows of an embedding table: the settings, and what each way of doing so is."""

from typing import Any, Literal, Protocol

from pydantic import Field, model_validator

from ..settings_base import Positive, Strict
from .buckets import Buckets
from .key_counts import ExactCounts, HashedCounts, KeyCounts
from .vocabulary import HashedIds, Vocabulary


class Vocab(Strict):
    """Exact rows, given by the counting pass."""

    min_count: Positive = 1

    def counts(self) -> ExactCounts:
        """Nothing counted yet."""
        return ExactCounts(self.min_count)

    def rows(self) -> int | None:
        """Rows of the table, as far as they are known before any counting."""
        return None


class Hash(Strict):
    """A fixed number of rows, however many ids there are."""

    buckets: Positive = 100_000

    def counts(self) -> HashedCounts:
        """Nothing counted yet."""
        return HashedCounts(self.buckets)

    def rows(self) -> int | None:
        """Rows of the table, the unknown row (never used) included."""
        return self.buckets + 1


ENCODINGS: dict[str, type[Vocab] | type[Hash]] = {"vocab": Vocab, "hash": Hash}
"""Name -> a way of giving ids rows, with its settings."""

TABLES: dict[str, Any] = {table.encoding: table for table in (Vocabulary, HashedIds, Buckets)}
"""Name, as in a run's statistics -> what ``load`` reads from its folder."""


class Way(Protocol):
    """A way of giving ids, or numbers, rows."""

    def counts(self) -> KeyCounts:
        """Nothing counted yet."""
        ...

    def rows(self) -> int | None:
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

    encoding: Literal["vocab", "hash"] = Field(
        default="vocab",
        description="vocab: exact rows from a counting pass over the training events; hash: fixed rows, no pass",
    )
    buckets: Positive | None = Field(default=None, description="hash: rows of the table; 100,000 when absent")
    min_count: Positive | None = Field(
        default=None, description="vocab: ids seen fewer times in training share the unknown row; 1 when absent"
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
        return {
            key: f"encoding: {name}" for name, way in ENCODINGS.items() for key in way.model_fields if key not in own
        }

    @property
    def ids(self) -> Vocab | Hash:
        """The way, with its settings."""
        way = ENCODINGS[self.encoding]
        return way(**{name: getattr(self, name) for name in way.model_fields})
