"""Finding the item that comes next."""

from typing import Literal

from pydantic import Field, model_validator

from ...strict import MOST, Positive, Share, Strict


class NextItemConfig(Strict):
    """The next-item objective: from the past, find the item that comes next among all items."""

    weight: float = Field(default=1.0, gt=0, description="of its loss, beside the tasks'")
    loss: Literal["sampled_softmax", "softmax", "gbce"] = Field(
        default="sampled_softmax",
        description="against sampled items; against all of them, for small catalogs; or gSASRec's binary loss",
    )
    positions: Literal["all", "last"] = Field(
        default="last",
        description="last: the row's own item is what is to be found; all: and each past one from those before it (one row per user)",
    )
    negatives: Positive = Field(
        default=1024,
        description="items drawn per rank and step, evenly over those of training; rounded up to whole batches",
    )
    in_batch: int = Field(
        default=0,
        ge=0,
        le=MOST,
        description="items to be found by other rows that are negatives too, at most so many per rank and step",
    )
    mask_share: Share = Field(
        default=0.2, description="bert4rec: share of past items hidden in training, and to be found"
    )
    label_smoothing: Share = Field(
        default=0.0, description="softmax: share of each target that is spread evenly over all items; for thin data"
    )
    repeat: bool = Field(
        default=False, description="a past item may come again, so measures and recommendations do not leave it out"
    )
    calibration: float = Field(
        default=0.75, ge=0, le=1, description="gbce: t, how far its scores are corrected for sampling"
    )

    @model_validator(mode="after")
    def _all_are_there(self):
        if self.loss == "softmax" and self.in_batch:
            raise ValueError("in_batch adds to negatives that are drawn; loss: softmax has all items, so leave it 0")
        if self.loss != "softmax" and self.label_smoothing:
            raise ValueError(
                f"label_smoothing is spread over all items, which only loss: softmax has; it is {self.loss}"
            )
        return self
