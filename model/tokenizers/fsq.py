"""Finite scalar quantisation: each code is a few numbers of the turned vector, rounded. It needs no catalog to fit."""

import math
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from ...data.content_kinds.codes import MOST_VALUES, OF_ALIKE, OfVectors
from ...data.errors import UserError
from .items import Codebook, Items

_TURN = 20231  # the same in every experiment: codes of two catalogs mean the same
Scalar = Annotated[int, Field(ge=2, le=64)]


class FSQ(OfVectors):
    """Finite scalar quantisation (Mentzer et al., 2024; for recommendation RecGPT, Jiang et al., 2025), of vectors of length 1 turned at
    random: what a code means is the same in every catalog, so that a model can be used in one that it has not seen."""

    method: Literal["fsq"] = "fsq"
    levels: int = Field(default=32, ge=1, le=256, description="levels of codes")
    scalars: tuple[Scalar, ...] = Field(
        default=(4, 4, 4),
        min_length=1,
        max_length=8,
        description="of a level: into how many steps each of its numbers is rounded",
    )
    unique: Literal["digit", "shared"] = Field(default="shared", description=OF_ALIKE)
    smoothing: Literal[0.0] = Field(default=0.0, description="none: it would be of one catalog")  # type: ignore[assignment]
    run: None = Field(default=None, description="none: it would be of one catalog")

    any_catalog: ClassVar[bool] = True
    seeded: ClassVar[bool] = False

    @model_validator(mode="after")
    def _fits(self):
        if math.prod(self.scalars) > MOST_VALUES:
            raise ValueError(f"scalars make {math.prod(self.scalars):,} values of a level: {MOST_VALUES:,} at most")
        return self

    @property
    def values(self) -> tuple[int, ...]:
        return (math.prod(self.scalars),) * self.levels

    def fit(self, items: Items) -> Codebook:
        """Nothing but a check that vectors are wide enough."""
        width, needed = items.at(np.zeros(0, np.int64)).shape[1], self.levels * len(self.scalars)
        if width < needed:
            raise UserError(
                f"codes.levels: {self.levels}",
                f"of {len(self.scalars)} numbers are more than the {width} of a vector",
                "Set fewer levels, or fewer scalars.",
            )
        return {}

    def codes(self, codebook: Codebook, items: Items, at: np.ndarray) -> np.ndarray:
        """``[n, levels]`` of items at positions ``[n]``."""
        x = items.at(at)
        width = x.shape[1]
        # A turned vector of length 1 has numbers of deviation d^-1/2; as shares of a normal distribution they are spread evenly.
        turned = x @ turn(width)[:, : self.levels * len(self.scalars)]
        shares = torch.special.ndtr(turned.double() * width**0.5).view(len(x), self.levels, len(self.scalars))
        code = torch.zeros(shares.shape[:2], dtype=torch.int64)
        for number, steps in enumerate(self.scalars):
            code = code * steps + (shares[:, :, number] * steps).long().clamp(0, steps - 1)
        return code.numpy()


@lru_cache(maxsize=1)
def turn(width: int) -> Tensor:
    """``[d, d]`` float32 orthonormal, random and always the same."""
    normal = torch.randn(width, width, generator=torch.Generator().manual_seed(_TURN), dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    return (q * r.diagonal().sign()).float()
