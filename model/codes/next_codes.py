"""The objective of finding the next item by its codes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...data.batch.batch import Batch
from ...data.config.sections.next_item import NextItemConfig
from ...data.schema.layout import Layout, content_key
from .decoder import Others


class NextCodes(nn.Module):
    """Cross entropy of the codes of what comes next.

    Args:
        config: the experiment's ``model.next_item``, whose target is a content that is codes.
        layout: of the batches.
        batch_size: nominal rows per rank and step; the loss is a sum divided by it.
        width: D.
        shared: whether the codes are an aspect of items, whose embeddings are given.
    """

    def __init__(self, config: NextItemConfig, layout: Layout, batch_size: int, width: int, shared: bool):
        super().__init__()
        self.config, self.batch_size = config, batch_size
        self.name = content_key("item", config.target)
        self.decoder = config.decoder.build(layout.codes[self.name], width, shared)

    def of_user(self, states: Tensor, embeddings: Tensor | None) -> Tensor:
        """``[B, U]``: what a ranking needs to know, of states ``[B, D]``; embeddings as of `Decoder`."""
        return self.decoder.of_user(states, embeddings)

    def group_scores(
        self, states: Tensor, candidates: Tensor, batch: Batch, embeddings: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As of `NextItem`."""
        groups = batch.groups
        assert groups is not None
        assert groups.codes is not None
        return self.decoder.group_scores(states, groups.codes, embeddings), groups.there

    def forward(
        self,
        history: Any,
        sequence: Any,
        found_among: Callable[[], Tensor],
        candidates: Tensor,
        batch: Batch,
        embeddings: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """The loss; arguments and result as of `NextItem`, but that what there is to find are the codes in the batch."""
        past = batch.past
        assert past is not None
        to_find = history.to_find(sequence, self.config.positions == "all")
        states, target = to_find.states, to_find.target
        at = past.vector_at[self.name][: len(past.rows)]
        of_past = past.vectors[self.name].index_select(0, at.clamp_min(0)) if len(past.vectors[self.name]) else None
        own = batch.vectors[self.name]
        of_past = own.new_zeros(len(at), own.shape[1]) if of_past is None else of_past.to(own.dtype)
        codes = torch.cat([of_past, own]).long()
        # Past items were chosen by having become past; what has no codes cannot be found.
        usable = torch.cat([at >= 0, batch.vector_present[self.name] & past.chosen])
        found = target.clamp_min(0)
        weights = (usable[found] & (target >= 0)).float()
        smoothing = self.config.label_smoothing
        if self.config.in_batch:
            counts = torch.cat([past.counts, batch.id_counts[:, -1]])
            others = self._others(codes[found], weights, counts[found], past.trained_events, past.trained_items)
            losses = self.decoder.losses_among(states, codes[found], others, smoothing, embeddings)
        else:
            losses = self.decoder.losses(states, codes[found], smoothing, embeddings)
        total = (losses * weights).sum()
        return self.config.weight * total / self.batch_size, torch.stack([total, weights.sum()]).detach()

    def _others(self, codes: Tensor, weights: Tensor, counts: Tensor, events: int, items: int) -> Others:
        """What some of the states are to find. Popular items are among these more often, and get less weight for that (logQ): the
        inverse of how often each is expected, relative to an item of mean count; never seen, it is taken to have been seen once."""
        some = torch.randperm(len(codes), device=codes.device)[: self.config.in_batch]
        mean = events / max(items, 1)
        return Others(codes[some], weights[some] * mean / counts[some].clamp_min(1))
