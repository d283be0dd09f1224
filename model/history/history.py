"""The user's past items one by one; where their mean will do, see `mean_history`."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn
from torchrec import KeyedTensor

from ...data.batch.batch import Batch
from ...data.batch.past_items import Past
from ...data.config.sections.model import ModelConfig
from ...data.schema.layout import Layout
from ..codes.next_codes import NextCodes
from ..layers.axes import at_level, declare, named
from ..preference import Preference
from ..prefix.prefix import Prefix
from .next_item_loss import NextItem
from .past_items import PastItems
from .sequence import Sequence


class History(nn.Module):
    """Past items one by one: their vectors, what encodes them, and what is learned from the order they came in.

    Attributes:
        items: gives their vectors, and those of candidates.
        domain_embedding: ``[domains, D]``, what being of a domain adds to a past item; None where nobody tells.
        prefix: what stands before the past; None where nothing does.
        encoder: of sequences.
        objective: None where the next item is not to be found.
        preference: None where nothing is learnt from groups of candidates.
    """

    def __init__(self, layout: Layout, config: ModelConfig, batch_size: int):
        super().__init__()
        self.items = PastItems(layout)
        self.domain_embedding: nn.Parameter | None = None
        if layout.past_domains:
            self.domain_embedding = nn.Parameter(torch.randn(len(layout.domains), config.width) * 0.1)
            declare(self, {"domain_embedding": (named("domain", layout.domains), "width")})
        self.prefix = at_level("L1", Prefix(layout, config)) if config.prefix else None
        masked = config.next_item.mask_share if config.next_item is not None else 0.0
        self.encoder = at_level("L1", config.history.build(config.width, layout.past, masked))
        self.objective: NextItem | NextCodes | None = None
        if config.target is not None:
            assert config.next_item is not None
            of_aspect = config.uses(config.target)
            self.objective = NextCodes(config.next_item, layout, batch_size, config.width, of_aspect)
        elif config.next_item is not None:
            reasoning = config.reasoning
            of_steps = () if reasoning is None else tuple(map(layout.tasks.index, reasoning.tasks))
            self.objective = NextItem(config.next_item, batch_size, config.width, layout.item_rows, of_steps)
        self.preference: Preference | None = None
        if config.next_item is not None and config.next_item.preference is not None:
            self.preference = Preference(config.next_item, batch_size)

    def in_domains(self, sequence: Sequence, past: Past) -> Sequence:
        """The sequence as its encoder sees it: what was, and where. What is to be found stays as it is anywhere."""
        if self.domain_embedding is None:
            return sequence
        # A row of zeros behind the domains is what -1 means.
        where = F.pad(self.domain_embedding, (0, 0, 0, 1))[past.domains]
        attention = sequence.attention and (sequence.attention[0] + where, sequence.attention[1])
        return replace(sequence, items=sequence.items + where, attention=attention)

    def prefixed(self, sequence: Sequence, pooled: KeyedTensor, batch: Batch) -> Sequence:
        """With the prefix of each row before its past, where the experiment has one."""
        return sequence if self.prefix is None else sequence.with_prefix(*self.prefix(pooled, batch))
