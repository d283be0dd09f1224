"""Random vectors in place of a language model's."""

import hashlib
from typing import Any

import numpy as np

from ...data.config.sections.text import TextConfig
from .content_encoder import Encoded

WIDTH = 384  # where nobody chose one: that of the default encoder


class RandomVectors:
    """The paper's ablation arm: a fixed random vector per distinct text, of the same length as a language model's.

    A vector is a function of the text alone: equal texts agree across catalogs, processes and versions.
    """

    revision = None

    def __init__(self, size: int):
        self.size = size

    @classmethod
    def load(cls, config: TextConfig, precision: str | None) -> "RandomVectors":
        """Of the width the experiment's ``text`` asks for; float32 in any ``precision``."""
        return cls(config.dimension or WIDTH)

    def encode(self, inputs: list[str], prompt: str = "") -> Encoded:
        """``[N, D]`` float32, uniformly distributed on the unit sphere; no text is ever cut."""
        seeds = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in inputs]
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
