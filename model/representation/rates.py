"""Rates as an input of the head."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...data.batch.batch import Batch
from ...data.rates.rates import NOTHING_KNOWN
from ...data.schema.layout import Layout, id_key
from ..layers.axes import declare, input_axis
from .sparse_aspect import aspect_projection


class Rates(nn.Module):
    """Rates and counts of a row, through one projection of their own.

    In order of time, training shows ids with few labels and with none, and each id has what is known of it, a count of 0 as well. In
    folds hardly any row has an id without known labels, and a count of 0 would be like nothing the model knows. There, what stands for
    such an id (or category) is learned, mostly from rows whose id is hidden.

    Attributes:
        inputs: name and width of each column, in order.
    """

    def __init__(self, layout: Layout, width: int):
        super().__init__()
        self.columns, self.entities = layout.rates, layout.entities
        names = layout.dense[self.columns]
        self.inputs = [(name, 1) for name in names]
        axis = input_axis(self.inputs)
        self.projection = aspect_projection(axis, width)
        self.learned = layout.rates_in_folds
        if not self.learned:
            return
        self.unknown = nn.Parameter(torch.zeros(len(names)))
        declare(self, {"unknown": (axis,)})
        at = {id_key(entity): number for number, entity in enumerate(self.entities)}
        # Of categories, the last: they are not hidden.
        self._entity_of = [at.get(name.split(".")[0], len(at)) for name in names]

    def forward(self, batch: Batch, known: Mapping[str, Tensor]) -> Tensor:
        """``[B, D]``.

        Args:
            batch: B rows.
            known: entity -> ``[B]`` bool, whether the id was seen in training and is not hidden; entities that it lacks have theirs.
        """
        found, counts = batch.dense[:, self.columns], batch.id_counts
        if not self.learned:
            return self.projection(found)
        shown = [
            ~(counts[:, at] > 0) | known[entity]
            if entity in known
            else torch.ones_like(counts[:, at], dtype=torch.bool)
            for at, entity in enumerate(self.entities)
        ]
        shown = torch.stack([*shown, torch.ones_like(shown[0])], 1)[:, self._entity_of]
        return self.projection(torch.where(shown & (found != NOTHING_KNOWN), found, self.unknown))
