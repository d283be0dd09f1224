"""Codes without an order: the vector is turned, cut into parts, and each part quantised by itself."""

from functools import partial
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ...data.content_kinds.codes import OF_ALIKE, OfVectors, Values
from ...data.errors import UserError
from ...data.settings_base import Positive
from .items import FINE, Codebook, Items
from .k_means import k_means, nearest


class Product(OfVectors):
    """Optimised product quantisation (Ge et al., 2013; for semantic ids RPG, Hou et al., 2025), by its closed form: principal
    directions, dealt out so that all parts say about as much."""

    method: Literal["parallel"] = "parallel"
    levels: int = Field(default=32, ge=1, le=256, description="parts, each a level of codes")
    size: Values = Field(default=256, description="values of each")
    iterations: Positive = Field(default=25, description="of k-means, at most")
    unique: Literal["digit", "shared"] = Field(default="shared", description=OF_ALIKE)

    @property
    def values(self) -> tuple[int, ...]:
        return (self.size,) * self.levels

    def fit(self, items: Items) -> Codebook:
        """The turn ``[d, levels * e]``, and centroids ``[levels, V, e]``."""
        covariance = _covariance(items)
        width = len(covariance)
        if width < self.levels:
            raise UserError(
                f"codes.levels: {self.levels}", f"is more than the {width} numbers of a vector", "Set fewer levels."
            )
        variances, directions = torch.linalg.eigh(covariance)
        dealt = _dealt(variances.flip(0).clamp_min(1e-12).tolist(), self.levels)
        turn = directions.flip(1)[:, dealt].float()
        parts = [
            k_means(items, partial(_part, items, turn, self.levels, level), self.size, level, self.iterations)[0]
            for level in range(self.levels)
        ]
        return {"turn": turn, "centroids": torch.stack(parts)}

    def codes(self, codebook: Codebook, items: Items, at: np.ndarray) -> np.ndarray:
        """``[n, levels]`` of items at positions ``[n]``."""
        turned = items.at(at) @ codebook["turn"]
        parts = zip(turned.chunk(self.levels, 1), codebook["centroids"], strict=True)
        return torch.stack([nearest(part, of_part) for part, of_part in parts], 1).numpy()


def _covariance(items: Items) -> Tensor:
    """``[d, d]`` float64."""
    width = items.at(np.zeros(0, np.int64)).shape[1]
    total = np.zeros((width, width + 1), np.int64)
    for block in items.blocks():
        x = items.at(block)
        total += torch.cat([x.T @ x, x.sum(0)[:, None]], 1).double().mul(FINE).round().long().numpy()
        items.told(len(block))
    summed = torch.from_numpy(items.add_up(total)).double() / FINE / max(len(items), 1)
    return summed[:, :width] - torch.outer(summed[:, width], summed[:, width])


def _dealt(variances: list[float], parts: int) -> list[int]:
    """Directions, the widest first, dealt to parts of one size so that the products of their variances are alike: part after part."""
    size = len(variances) // parts
    taken: list[list[int]] = [[] for _ in range(parts)]
    product = np.zeros(parts)
    for direction, variance in enumerate(variances[: size * parts]):
        free = [part for part in range(parts) if len(taken[part]) < size]
        least = min(free, key=lambda part: (product[part], part))
        taken[least].append(direction)
        product[least] += np.log(variance / variances[-1])
    return [direction for part in taken for direction in part]


def _part(items: Items, turn: Tensor, parts: int, part: int, at: np.ndarray) -> Tensor:
    return items.at(at) @ turn.chunk(parts, 1)[part]
