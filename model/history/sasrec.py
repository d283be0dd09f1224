"""SASRec: causal self-attention (Kang & McAuley, 2018)."""

from typing import ClassVar, Literal

from torch import nn

from ...data.settings_base import Strict
from ..prefix.settings import PrefixDropout, Prefixed, prefix_without_effect
from .reasoning import Reasoning, Reasons
from .sequence import PastFeatures
from .time_bias import SeesTimes
from .transformer import AttentionHeads, Block, BlockDropout, Blocks, Causal, Stack


class SASRec(Strict):
    """Causal self-attention (Kang & McAuley, 2018)."""

    encoder: Literal["sasrec"] = "sasrec"
    layers: Blocks = 2
    heads: AttentionHeads = 2
    dropout: BlockDropout = 0.2
    features: PastFeatures = ()
    prefix: Prefixed = ()
    prefix_dropout: PrefixDropout = 0.5
    reasoning: Reasons = None
    time_bias: SeesTimes = False

    finds_next: ClassVar[bool] = True

    def without_effect(self) -> dict[str, str]:
        return prefix_without_effect(self.prefix)

    def build(self, width: int, past: int, mask_share: float) -> nn.Module:
        """The module; arguments as in `history`."""
        reasoning = Reasoning(width, self.reasoning) if self.reasoning else None
        blocks = [Block(width, self.heads, self.dropout, True, self.time_bias) for _ in range(self.layers)]
        return Causal(Stack(width, past, blocks, self.dropout), reasoning)
