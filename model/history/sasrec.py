"""SASRec: causal self-attention (Kang & McAuley, 2018)."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from ...data.settings_base import Positive, Share, Strict
from .reasoning import Reasoning, ReasoningConfig
from .sequence import PastFeatures
from .time_bias import SeesTimes
from .transformer import Block, Causal, Stack


class SASRec(Strict):
    """Causal self-attention (Kang & McAuley, 2018)."""

    encoder: Literal["sasrec"] = "sasrec"
    layers: Positive = Field(default=2, description="blocks of attention")
    heads: Positive = Field(default=2, description="heads of each; divides model.width")
    dropout: Share = Field(default=0.2, description="dropout inside the blocks and on their input")
    features: PastFeatures = ()
    reasoning: ReasoningConfig | None = Field(
        default=None, description="latent steps after the newest item (ReaRec); absent: none"
    )
    time_bias: SeesTimes = False

    finds_next: ClassVar[bool] = True

    def build(self, width: int, past: int, mask_share: float) -> nn.Module:
        """The module; arguments as in `history`."""
        reasoning = Reasoning(width, self.reasoning) if self.reasoning else None
        blocks = [Block(width, self.heads, self.dropout, True, self.time_bias) for _ in range(self.layers)]
        return Causal(Stack(width, past, blocks, self.dropout), reasoning)
