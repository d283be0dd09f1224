"""What every encoder of contents can do."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np


class Encoded(NamedTuple):
    """What an encoder made of N inputs.

    Attributes:
        vectors: ``[N, D]`` float32.
        cut: how many were longer than it takes.
        bad: position -> what is wrong, of those that turned out to be nothing it can encode; their vectors mean nothing.
    """

    vectors: np.ndarray
    cut: int = 0
    bad: Mapping[int, str] = {}


class ContentEncoder(Protocol):
    """Turns contents of one kind into vectors. Several threads may use one."""

    @property
    def size(self) -> int:
        """D, the width of a vector."""
        ...

    @property
    def revision(self) -> str | None:
        """Commit of the repository that it was loaded from; None where there is none."""
        ...

    def encode(self, inputs: list[Any], prompt: str = "") -> Encoded:
        """The vectors of N contents, each with ``prompt`` before it."""
        ...

    def prompt(self, entity: str) -> str:
        """What it wants before a text of an entity, unless the experiment says."""
        ...

    def made_with(self, prompt: str) -> dict[str, Any]:
        """All that a vector depends on besides its text, as JSON values: vectors of two such are not mixed in a store."""
        ...
