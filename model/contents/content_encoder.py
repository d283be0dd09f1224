"""What every encoder of contents can do."""

from typing import Any, Protocol

import numpy as np


class ContentEncoder(Protocol):
    """Turns texts into vectors. Several threads may use one."""

    @property
    def size(self) -> int:
        """D, the width of a vector."""
        ...

    @property
    def revision(self) -> str | None:
        """Commit of the repository that it was loaded from; None where there is none."""
        ...

    def encode(self, texts: list[str], prompt: str = "") -> tuple[np.ndarray, int]:
        """``[N, D]`` float32 vectors of N texts, each with ``prompt`` before it, and how many texts were cut."""
        ...

    def prompt(self, entity: str) -> str:
        """What it wants before a text of an entity, unless the experiment says."""
        ...

    def made_with(self, prompt: str) -> dict[str, Any]:
        """All that a vector depends on besides its text, as JSON values: vectors of two such are not mixed in a store."""
        ...
