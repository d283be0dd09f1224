"""Codes that were made elsewhere."""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from ...data.codes.code_table import read_code_table
from ...data.content_kinds.codes import OF_ALIKE, Tokenizer, Values
from .items import Codebook, Items


class Given(Tokenizer):
    """Codes in a Parquet file, as ``foundrank tokenize --export`` writes one."""

    method: Literal["given"] = "given"
    path: str = Field(
        description="Parquet file with the columns key, an item's id, and codes, a list of whole numbers; relative to the experiment file"
    )
    sizes_of_levels: Annotated[tuple[Values, ...], Field(min_length=1, max_length=256)] = Field(
        description="how many values each level has"
    )
    unique: Literal["digit", "shared"] = Field(default="shared", description=OF_ALIKE)

    any_catalog: ClassVar[bool] = True
    seeded: ClassVar[bool] = False

    @property
    def values(self) -> tuple[int, ...]:
        return self.sizes_of_levels

    def fit(self, items: Items) -> Codebook:
        """Nothing."""
        return {}

    def known(self, items: Items) -> np.ndarray:
        """``[C]`` bool, which items the file has."""
        keys, _ = read_code_table(self.path, self.values)
        return np.isin(items.keys, keys)

    def codes(self, codebook: Codebook, items: Items, at: np.ndarray) -> np.ndarray:
        """``[n, L]`` of items at positions ``[n]``, which the file has."""
        keys, codes = read_code_table(self.path, self.values)
        order = np.argsort(keys)
        return torch.from_numpy(codes[order][np.searchsorted(keys[order], items.keys[at])]).numpy().astype(np.int64)
