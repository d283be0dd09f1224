"""What makes one vector of the past."""

from typing import Literal

from pydantic import Field

from ...strict import Positive, Share, Strict


class ReasoningConfig(Strict):
    """Latent reasoning: further passes over the newest state."""

    steps: Positive = Field(default=2, description="passes")
    learning: Literal["ensemble", "progressive"] = Field(
        default="ensemble",
        description="ensemble: all steps count alike, their mean is used; progressive: later steps count more, the last is used",
    )


class HistoryEncoderConfig(Strict):
    """How the user's past items become one vector."""

    encoder: Literal["mean", "din", "sasrec", "bert4rec", "hstu"] = Field(
        default="mean",
        description="mean: of all; din: weighted by the candidate item; sasrec, hstu: causal self-attention; bert4rec: bidirectional self-attention",
    )
    layers: Positive = Field(default=2, description="sasrec, bert4rec, hstu: blocks of attention")
    heads: Positive = Field(default=2, description="sasrec, bert4rec, hstu: heads of each; divides model.width")
    dropout: Share = Field(default=0.2, description="dropout inside the blocks and on their input")
    features: tuple[str, ...] = Field(
        default=(),
        description="categorical, list and dense features of the item catalog for past items and candidates; each costs as many lookups as the ids",
    )
    decoupled: bool = Field(default=False, description="din: ids have a second table, for attention alone (DARE)")
    reasoning: ReasoningConfig | None = Field(
        default=None, description="sasrec, hstu: latent steps after the newest item (ReaRec); absent: none"
    )
    time_bias: bool = Field(
        default=False,
        description="attention also sees how long ago a past item was; needs entities.user.history.times",
    )

    def without_effect(self) -> dict[str, str]:
        blocks = self.encoder in ("sasrec", "bert4rec", "hstu")
        return {} if blocks else dict.fromkeys(("layers", "heads", "dropout"), "encoder: sasrec, bert4rec or hstu")
