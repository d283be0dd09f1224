"""Semantic ids: what an item is, by a few codes."""

from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..arrow.column_need import ColumnNeed
from ..settings_base import Name, Seam, Share, Strict
from .content import Content

MOST_VALUES = 1 << 15
"""Of a level: what fits 16 bits with room for a sign, as tensors have one."""
DIGIT_VALUES = 256
"""Of an extra digit."""
OF_ALIKE = "where several items have the same codes: digit, a further level tells them apart, by their hash; shared, they stay alike"
OF_ALIKE_OR_DEALT = f"{OF_ALIKE}; sinkhorn, the last level is dealt out so that they differ"

Values = Annotated[int, Field(ge=2, le=MOST_VALUES)]


class Tokenizer(Strict):
    """How items become codes, M levels of them. A method adds its settings and does its work.

    Attributes:
        any_catalog: whether what a code means is the same in every catalog, so that a model may be used in another one.
        seeded: whether anything in it is random.
    """

    any_catalog: ClassVar[bool] = False
    seeded: ClassVar[bool] = True

    method: str
    seed: int = Field(
        default=2026, ge=0, lt=2**31, description="of what is random in making them; trainings of any seed share them"
    )
    unique: Literal["digit", "shared"] = Field(default="digit", description=OF_ALIKE)
    digits: int = Field(
        default=1, ge=1, le=4, description=f"unique: digit: how many levels of {DIGIT_VALUES} values tell apart"
    )

    @property
    @abstractmethod
    def values(self) -> tuple[int, ...]:
        """How many values each level has, without those that tell apart."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each of the M levels has."""
        return self.values + (DIGIT_VALUES,) * (self.digits if self.unique == "digit" else 0)

    @property
    def needs(self) -> list[ColumnNeed]:
        """The catalog columns that it reads."""
        return []

    @property
    def graph(self) -> bool:
        """Whether it looks at which items are together in training rows."""
        return False

    def asked(self) -> dict[str, Any]:
        """All that codes depend on beside their inputs, as JSON values."""
        return self.model_dump(mode="json", exclude_none=True, exclude=set() if self.seeded else {"seed"})

    @property
    def portable(self) -> bool:
        """Whether another catalog's codes mean the same; digits are of one."""
        return self.any_catalog and self.unique == "shared"

    def without_effect(self) -> dict[str, str]:
        found = {} if self.seeded else {"seed": "a method in which something is random"}
        return found | ({"digits": "unique: digit"} if self.unique != "digit" else {})


class OfVectors(Tokenizer):
    """Codes of vectors: what an item's contents are, side by side, and perhaps what a model has learnt of it."""

    of: tuple[Name, ...] = Field(
        default=(), description="contents that are taken side by side; all that have vectors when empty"
    )
    run: str | None = Field(
        default=None, description="a run that finds the next item, whose vectors of items are taken beside the contents"
    )
    smoothing: Share = Field(
        default=0.0,
        description="share of an item's vector that becomes the mean of those which are in training rows together with it",
    )

    @property
    def graph(self) -> bool:
        return self.smoothing > 0


class Codes(Content):
    """Codes of an item, which ``foundrank tokenize`` makes; the aspect is the sum of its codes' embeddings.

    In a batch they are a vector of M whole numbers.
    """

    kind: Literal["codes"] = Field(default="codes", description="may be left out: `codes` tells it")
    codes: Annotated[Any, Seam("tokenizers", by="method")] = Field(
        description="the method that makes them, and its settings"
    )

    @model_validator(mode="after")
    def _not_too_many(self):
        sizes = self.codes.sizes
        if sum(sizes) > MOST_VALUES * 8:
            raise ValueError(f"the levels have {sum(sizes):,} values together: {MOST_VALUES * 8:,} at most")
        return self

    def in_catalog(self, has_catalog: bool) -> bool:
        return True

    def needs(self, field: str) -> list[ColumnNeed]:
        return [replace(need, field=f"{field}.{need.field}") for need in self.codes.needs]
