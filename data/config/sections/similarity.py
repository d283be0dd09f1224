"""How alike the item at hand and the past items are."""

from typing import Annotated

from pydantic import Field, model_validator

from ...settings_base import Strict

_Many = Annotated[int, Field(ge=1, le=1000)]


class SimilarityConfig(Strict):
    """What the cosines of the item with each of the user's past items say, content by content (after SimTier, MUSE, 2025)."""

    bins: int = Field(
        default=10,
        ge=0,
        le=1000,
        description="bins over [-1, 1], in each of which the past items are counted whose cosine with the item falls into it; 0: none",
    )
    top: tuple[_Many, ...] = Field(
        default=(1, 3, 10),
        description="numbers of the past items that are most alike, whose mean cosine is an input each",
    )

    @model_validator(mode="after")
    def _something(self):
        if not self.bins and not self.top:
            raise ValueError("bins is 0 and top is empty, so nothing is compared; leave out model.similarity instead")
        if len(set(self.top)) < len(self.top):
            raise ValueError("top names a number twice")
        return self

    def columns(self, content: str) -> tuple[str, ...]:
        """Names of the numbers that there are of a content, in their order."""
        of_top = (f"similarity of {content}, top {many}" for many in self.top)
        return (*of_top, *(f"similarity of {content}, bin {number}" for number in range(self.bins)))
