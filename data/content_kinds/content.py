"""What every kind of content has: where it comes from, and where a model gets its vectors."""

import hashlib
import string
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from ..arrow.column_need import ColumnNeed
from ..arrow.column_types import TEXT
from ..escaping import redacted, visible
from ..settings_base import Strict
from .text_template import render_texts

DIGEST_BYTES = 16
_EXAMPLES = 3


class EncoderSettings(Protocol):
    """The settings of what turns inputs of one kind into vectors."""

    @property
    def vectors(self) -> str:
        """Which content encoder it is; ``none``: there shall be no vectors."""
        ...

    @property
    def encoder(self) -> str | None:
        """Name of its weights, for messages and the manifest; None where it has none."""
        ...

    @property
    def precision(self) -> str:
        """``auto``, or what it computes in."""
        ...

    @property
    def dimension(self) -> int | None:
        """Width of the vectors, if less than the encoder's."""
        ...

    @property
    def reduction(self) -> Literal["truncate", "pca"]:
        """How they become that narrow."""
        ...

    @property
    def suffix(self) -> str:
        """Behind the name of a store's folder, so that vectors of several encoders lie side by side."""
        ...

    def asked(self) -> dict[str, Any]:
        """All of it that vectors depend on, as JSON values, ``vectors`` included."""
        ...


class Located(NamedTuple):
    """An input that is elsewhere: where, and the digest of what is there."""

    location: str
    digest: bytes


@dataclass
class Missing:
    """Inputs that a catalog names and that cannot be had.

    Attributes:
        counts: reason -> rows.
        examples: reason -> the first of them.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, reason: str, name: str, rows: int = 1) -> None:
        """Counts rows that name one."""
        self.counts[reason] = self.counts.get(reason, 0) + rows
        known, shown = self.examples.setdefault(reason, []), visible(redacted(name))
        if len(known) < _EXAMPLES and shown not in known:
            known.append(shown)

    def told(self) -> dict[str, Any]:
        """As JSON values; empty where all could be had."""
        return {reason: {"rows": rows, "first": self.examples[reason]} for reason, rows in self.counts.items()}


class Content(Strict):
    """One content of an entity: a text, a picture or a vector. A kind adds its settings; that with the kind's name says what it is.

    Its vectors come from a column that holds them, or, where the kind is an `Embedded` one, from a store that
    ``foundrank embed`` has made.
    """

    kind: str

    @abstractmethod
    def in_catalog(self, has_catalog: bool) -> bool:
        """Whether its columns are those of the entity's catalog, not of the events."""

    @abstractmethod
    def needs(self, field: str) -> list[ColumnNeed]:
        """The columns it is made of; ``field`` is where the experiment describes it."""


class Embedded(Content):
    """A content whose vectors ``foundrank embed`` makes of catalog columns that a template names.

    A setting of the name `folder` is a location, relative to the experiment file.

    Attributes:
        plural: what its inputs are called.
        together: inputs that are embedded, written and believed together, at most.
    """

    plural: ClassVar[str] = "texts"
    together: ClassVar[int] = 1024

    @property
    @abstractmethod
    def template(self) -> str:
        """Over catalog columns."""

    @property
    def own_encoder(self) -> EncoderSettings | None:
        """What makes its vectors; None: the experiment's ``text``."""
        return None

    def asked(self) -> dict[str, Any]:
        """What its vectors depend on beside their encoder's settings, as JSON values."""
        return {"template": self.template}

    @property
    def columns(self) -> list[str]:
        """Catalog columns that the template names, in order."""
        return [name for _, name, _, _ in string.Formatter().parse(self.template) if name]

    def in_catalog(self, has_catalog: bool) -> bool:
        return True

    def needs(self, field: str) -> list[ColumnNeed]:
        return [ColumnNeed(column, TEXT, field) for column in dict.fromkeys(self.columns)]

    def inputs(self, table: pa.Table) -> pa.Array:
        """What its encoder gets of each row of a catalog, large_string ``[N]``; null where there is nothing.

        Raises:
            UserError: the template cannot be parsed, or names a column of a type that is no text.
        """
        return render_texts(self.template, table)

    def digests(self, inputs: pa.Array, missing: Missing) -> list[bytes | None]:
        """`DIGEST_BYTES` of each of N inputs: those that agree in them are embedded once. None: there is nothing to embed.

        Args:
            inputs: large_string ``[N]``.
            missing: where it is noted that an input cannot be had.
        """
        return [text and _digest(text) for text in inputs.cast(pa.large_binary()).to_pylist()]

    def taken(self, inputs: Sequence[str], digests: np.ndarray) -> list[Any]:
        """What its encoder takes of N inputs and their digests, ``[N, DIGEST_BYTES]`` uint8: texts, or where they are."""
        return list(inputs)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
