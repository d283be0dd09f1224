"""Finding the item that comes next."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ...settings_base import MOST, Name, Positive, Seam, Share, Strict

ITEM = "item"
"""The target of an objective that finds items by their vectors."""
_OF_VECTORS = ("loss", "negatives", "calibration", "widths")


class PreferenceConfig(Strict):
    """Which of a row's candidates to prefer, learnt from the rewards that `foundrank align` has written beside them."""

    loss: Literal["dpo", "softmax_dpo", "grpo"] = Field(
        default="dpo",
        description="dpo: of each two candidates the better one; softmax_dpo: the best one among all; grpo: all of them by their advantage in the group, ratios of probabilities clipped",
    )
    nll: float | None = Field(
        default=None,
        ge=0,
        description="weight of the usual next-item loss, which holds the generator to what users did; absent: 1, or 0.1 under positions: all, where each row has many of them",
    )
    beta: float = Field(
        default=1.0, gt=0, description="dpo and softmax_dpo: how strongly log-probabilities are held to the generator's"
    )
    clip: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="grpo: how far a ratio of probabilities may leave 1 and still be learnt from",
    )
    early_clip: float = Field(
        default=0.1, ge=0, description="grpo: how far beyond that the ratio of a candidate of negative advantage counts"
    )
    kl: float = Field(
        default=0.1,
        ge=0,
        description="grpo: weight of the KL divergence from the generator's probabilities in the group",
    )

    def without_effect(self) -> dict[str, str]:
        if self.loss == "grpo":
            return {"beta": "loss: dpo or softmax_dpo"}
        return dict.fromkeys(("clip", "early_clip", "kl"), "loss: grpo")


class NextItemConfig(Strict):
    """The next-item objective: from the past, find the item that comes next among all items."""

    target: Name = Field(
        default=ITEM,
        description="what is predicted: item, the vector of the next item; or the name of a content that is codes, the codes of the next item",
    )
    decoder: Annotated[Any, Seam("decoders", by="kind", default="parallel")] = Field(
        default=None, description="how codes are predicted from a state of the past"
    )
    widths: tuple[Positive, ...] = Field(
        default=(),
        description="as how many of their leading numbers states and items find each other, too, the model's width last: one training, models of several sizes",
    )
    weight: float = Field(default=1.0, gt=0, description="weight of its loss, relative to the tasks'")
    loss: Literal["sampled_softmax", "softmax", "gbce"] = Field(
        default="sampled_softmax",
        description="softmax: against all items, for small catalogs; sampled_softmax: against sampled ones; gbce: gSASRec's binary loss",
    )
    positions: Literal["all", "last"] = Field(
        default="last",
        description="last: the row's own item is the target; all: also each past item, given those before it (one row per user)",
    )
    negatives: Positive = Field(
        default=1024,
        description="items sampled uniformly per rank and step, of those in training; rounded up to whole batches; under candidates: domain, shared evenly by the domains",
    )
    candidates: Literal["all", "domain"] = Field(
        default="all",
        description="what the next item is told from in training, validation, evaluate and compare: all items, or those in the training events of the row's own domain; recommend then requires --domain",
    )
    in_batch: int = Field(
        default=0,
        ge=0,
        le=MOST,
        description="targets of other rows used as further negatives: the maximum per rank and step; of codes that are predicted in parallel: those that an item is told from as a whole, 0 for each code by itself",
    )
    mask_share: Share = Field(default=0.2, description="bert4rec: share of past items masked in training, as targets")
    label_smoothing: Share = Field(
        default=0.0,
        description="softmax and codes: label smoothing, the share of each target spread evenly over all items, over all values of a code, or, of codes with in_batch, over the items of the batch; for sparse data",
    )
    repeat: bool = Field(
        default=False, description="items may recur, so metrics and recommendations include past items"
    )
    calibration: float = Field(
        default=0.75, ge=0, le=1, description="gbce: t, how far scores are corrected for sampling"
    )

    preference: PreferenceConfig | None = Field(
        default=None, description="learning which candidates a reward prefers; `foundrank align` sets it; absent: off"
    )

    @model_validator(mode="after")
    def _group_in_batch(self):
        if self.preference is not None and self.target == ITEM and (self.loss != "softmax" or self.widths):
            raise ValueError(
                "preference needs the vectors of all items in each step: loss: softmax, without widths; or a target that is codes"
            )
        return self

    @model_validator(mode="after")
    def _among_all(self):
        if self.target != ITEM and self.candidates == "domain":
            raise ValueError(
                "candidates: domain has no part in predicting codes; `recommend --domain` keeps to a domain's items"
            )
        return self

    @model_validator(mode="after")
    def _increasing(self):
        if len(self.widths) == 1 or any(a >= b for a, b in pairwise(self.widths)):
            told = ", ".join(map(str, self.widths))
            raise ValueError(
                f"widths are {told}; they increase, and lead from one or more narrower ones to model.width"
            )
        return self

    def without_effect(self) -> dict[str, str]:
        drawn = "loss: sampled_softmax or gbce"
        if self.target != ITEM:
            at_once = getattr(self.decoder, "kind", None) == "parallel"
            in_batch = {} if at_once or not self.in_batch else {"in_batch": "decoder: parallel, where target is codes"}
            return {**dict.fromkeys(_OF_VECTORS, "target: item"), **in_batch}
        return {
            "decoder": "target: codes",
            **({"negatives": drawn} if self.loss == "softmax" else {}),
            **({"in_batch": drawn} if self.loss == "softmax" and self.in_batch else {}),
            **({"label_smoothing": "loss: softmax"} if self.loss != "softmax" and self.label_smoothing else {}),
            **({"calibration": "loss: gbce"} if self.loss != "gbce" else {}),
        }
