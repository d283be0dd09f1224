"""Residual k-means: each level quantises what those before it have left."""

from functools import partial
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...data.content_kinds.codes import OF_ALIKE_OR_DEALT, OfVectors, Values
from ...data.settings_base import Positive
from .items import Codebook, Items
from .k_means import distances, k_means, quantised


class RqKmeans(OfVectors):
    """Residual k-means (OneRec, Deng et al., 2025)."""

    method: Literal["rq_kmeans"] = "rq_kmeans"
    levels: int = Field(default=3, ge=1, le=16, description="levels of codes")
    size: Values = Field(default=256, description="values of each")
    iterations: Positive = Field(default=25, description="of k-means, at most")
    balanced: bool = Field(default=False, description="all values of a level get about as many items")
    unique: Literal["digit", "sinkhorn", "shared"] = Field(default="digit", description=OF_ALIKE_OR_DEALT)  # type: ignore[assignment]

    @property
    def values(self) -> tuple[int, ...]:
        return (self.size,) * self.levels

    def fit(self, items: Items) -> Codebook:
        """Centroids ``[L, V, d]`` and what balances them, ``[L, V]``."""
        centroids, prices = torch.zeros(0), torch.zeros(0)
        for level in range(self.levels):
            seen = partial(_left, items, centroids, prices)
            found, price = k_means(items, seen, self.size, level, self.iterations, self.balanced)
            centroids = torch.cat([centroids, found[None]]) if level else found[None]
            prices = torch.cat([prices, price[None]]) if level else price[None]
        return {"centroids": centroids, "prices": prices}

    def codes(self, codebook: Codebook, items: Items, at: np.ndarray) -> np.ndarray:
        """``[n, L]`` of items at positions ``[n]``."""
        return quantised(items.at(at), codebook["centroids"], codebook["prices"])[0].numpy()

    def last(self, codebook: Codebook, items: Items, at: np.ndarray) -> Tensor:
        """``[n, V]`` how far items at positions are from the values of the last level."""
        return distances(
            _left(items, codebook["centroids"][:-1], codebook["prices"][:-1], at), codebook["centroids"][-1]
        )


def _left(items: Items, centroids: Tensor, prices: Tensor, at: np.ndarray) -> Tensor:
    """What some levels leave of items at positions, ``[n, d]``."""
    return quantised(items.at(at), centroids, prices)[1]
