"""Rates as an input of the head."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...data.batch.batch import Batch
from ...data.schema.layout import Layout, id_key
from ..layers.axes import declare, input_axis
from .sparse_aspect import aspect_projection


class Rates(nn.Module):
    """Rates and counts of a row, through one projection of their own.

    What stands for an id that training has not seen is learned, from rows whose id is hidden: in folds, no row of training has an
    id without labels, so that a count of 0 would be like nothing the model knows.

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
        self.unknown = nn.Parameter(torch.zeros(len(names)))
        declare(self, {"unknown": (axis,)})
        at = {id_key(entity): number for number, entity in enumerate(self.entities)}
        # Of categories, the last: they are always as the labels say.
        self._entity_of = [at.get(name.split(".")[0], len(at)) for name in names]

    def forward(self, batch: Batch, known: Mapping[str, Tensor]) -> Tensor:
        """``[B, D]``.

        Args:
            batch: B rows.
            known: entity -> ``[B]`` bool, whether the id was seen in training and is not hidden; of others, `Batch.id_counts` says.
        """
        counts = batch.id_counts
        told = [
            known.get(entity, counts[:, at] > 0) | (counts[:, at] < 0)  # of no id, nothing is asked
            for at, entity in enumerate(self.entities)
        ]
        told = torch.stack([*told, torch.ones_like(told[0])], 1)[:, self._entity_of]
        return self.projection(torch.where(told, batch.dense[:, self.columns], self.unknown))
