"""The shallow tower of features with ``bias``: what the place of an item on the page has to do with its labels."""

import torch
from torch import Tensor, nn
from torchrec import KeyedTensor

from ...data.batch.batch import Batch
from ...data.schema.layout import BIAS, Layout
from ..layers.axes import Axis, at_level, declare, input_axis
from ..layers.domain_rows import to_rows
from ..layers.forms import grouped_linear
from ..representation.lookups import looked_up

_QUICKER = 10.0
"""Adam moves every number alike: one that stands alone for hidden rows would be late for what many move in all others."""


class BiasTower(nn.Module):
    """Adds to the logits what position, device slot and the like explain of the labels, so that the rest need not.

    One linear map per (domain, output) of these features' lookups, numbers and vectors, which nothing else sees. It is the
    shallow tower of Zhao et al. (2019, "Recommending what video to watch next"). So is the drop-out: in a share of the
    training rows the features are hidden, as they are in all rows at scoring, and one number per (domain, output) stands for
    them. The rest learns there what a label is over the positions that were logged, so scores are calibrated over these; and
    that it has to explain relevance by itself, where good positions are given to good items and the position would do.

    Rows of one list are hidden together where a list loss looks at it. A feature that is missing in a training row, as in other
    domains, adds zeros to what is mapped.

    Args:
        layout: of the batches.
        embedding_dim: width of the lookups.
        domains: the axis of the domains. Also with ``shared_head`` each has a tower of its own: pages differ.
        outputs: the axis of what the model gives for a row.
        share: of training rows whose features are hidden.
    """

    def __init__(self, layout: Layout, embedding_dim: int, domains: Axis, outputs: Axis, share: float):
        super().__init__()
        self.layout, self.share = layout, share
        self.keys, self.vectors = layout.sparse_of[BIAS], layout.vectors_of[BIAS]
        self.columns = len(layout.dense_of[BIAS])  # the last ones
        inputs = [(name, embedding_dim) for name in self.keys]
        inputs += [(layout.dense[column], 1) for column in layout.dense_of[BIAS]]
        inputs += [(name, layout.vectors[name]) for name in self.vectors]
        seen = input_axis(inputs)
        self.weight = nn.Parameter(torch.zeros(domains.size, outputs.size, seen.size))
        self.hidden = nn.Parameter(torch.zeros(domains.size, outputs.size))
        declare(at_level("L3", self), {"weight": (domains, outputs, seen), "hidden": (domains, outputs)})

    def forward(self, logits: Tensor, pooled: KeyedTensor, batch: Batch) -> Tensor:
        """Logits ``[B, O]`` float32 and what the features add to them; ``pooled``: key -> ``[P, embedding_dim]``, P >= B."""
        with torch.autocast(logits.device.type, enabled=False):
            hidden = to_rows(self.hidden * _QUICKER, batch.domain_lengths)
            if not self.training:
                return logits + hidden
            found = looked_up(pooled, batch, self.layout, self.keys)
            parts = [*found.values(), batch.dense[:, batch.dense.shape[1] - self.columns :]]
            parts += [batch.vectors[name] for name in self.vectors]
            inputs = torch.cat([part.float() for part in parts], 1)
            shown = grouped_linear(inputs, self.weight, torch.zeros_like(self.hidden), batch.domain_lengths)
            draws = torch.rand(batch.rows, 1, device=logits.device)
            if (lists := batch.lists) is not None:  # a list loss compares rows: those of one list have it all, or none
                draws = draws[lists.lengths.cumsum(0) - lists.lengths][lists.of_row]
            return logits + torch.where(draws < self.share, hidden, shown)
