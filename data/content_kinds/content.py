"""What every kind of content has: where it comes from, and where a model gets its vectors."""

import hashlib
import string
from abc import abstractmethod
from typing import Any, Literal, Protocol

import pyarrow as pa

from ..arrow.column_need import ColumnNeed
from ..arrow.column_types import TEXT
from ..settings_base import Strict
from .text_template import render_texts

DIGEST_BYTES = 16


class EncoderSettings(Protocol):
    """The settings of what turns inputs of one kind into vectors."""

    @property
    def vectors(self) -> str:
        """Which content encoder it is; ``none``: there shall be no vectors."""
        ...

    @property
    def encoder(self) -> str:
        """Name of its weights, for messages and the manifest."""
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
    """A content whose vectors ``foundrank embed`` makes of catalog columns that a template names."""

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

    def digests(self, inputs: pa.Array) -> list[bytes | None]:
        """`DIGEST_BYTES` of each of N inputs: those that agree in them are embedded once. None: there is nothing to embed."""
        return [text and _digest(text) for text in inputs.cast(pa.large_binary()).to_pylist()]


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
