"""Codes that say nothing: what codes that say something are compared with."""

from typing import Literal

import numpy as np
from pydantic import Field

from ...data.arrow.ids import mix
from ...data.content_kinds.codes import Tokenizer, Values
from .items import Codebook, Items


class RandomCodes(Tokenizer):
    """Codes by a hash of the item's id."""

    method: Literal["random"] = "random"
    levels: int = Field(default=3, ge=1, le=256, description="levels of codes")
    size: Values = Field(default=256, description="values of each")

    @property
    def values(self) -> tuple[int, ...]:
        return (self.size,) * self.levels

    def fit(self, items: Items) -> Codebook:
        """Nothing."""
        return {}

    def codes(self, codebook: Codebook, items: Items, at: np.ndarray) -> np.ndarray:
        """``[n, L]`` of items at positions ``[n]``."""
        levels = mix(np.arange(self.levels, dtype=np.uint64) ^ mix(np.array([items.seed])))
        return (mix(items.keys[at][:, None] ^ levels) % np.uint64(self.size)).astype(np.int64)
