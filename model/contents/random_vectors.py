"""Random vectors in place of an encoder's."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...data.content_kinds.content import DIGEST_BYTES, EncoderSettings, Located
from .content_encoder import Encoded

WIDTH = 384  # where nobody chose one: that of the default encoder


class RandomVectors:
    """The paper's ablation arm: a fixed random vector per distinct input, of the same length as an encoder's.

    A vector is a function of its input alone: equal ones agree across catalogs, processes and versions.
    """

    revision = None

    def __init__(self, size: int):
        self.size = size

    @classmethod
    def load(cls, config: EncoderSettings, precision: str | None) -> "RandomVectors":
        """Of the width that is asked for; float32 in any ``precision``."""
        return cls(config.dimension or WIDTH)

    def encode(self, inputs: Sequence[str | Located], prompt: str = "") -> Encoded:
        """``[N, D]`` float32, uniformly distributed on the unit sphere; no text is ever cut, and nothing read."""
        seeds = [given.digest if isinstance(given, Located) else _digest(given) for given in inputs]
        rows = [
            np.random.Generator(np.random.Philox(key=int.from_bytes(seed))).normal(size=self.size) for seed in seeds
        ]
        vectors = np.array(rows, np.float32).reshape(len(inputs), self.size)
        return Encoded(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    def prompt(self, entity: str) -> str:
        """None: it has no part in a vector."""
        return ""

    def made_with(self, prompt: str) -> dict[str, Any]:
        """Nothing but the text."""
        return {}


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()
