"""Rates as an input of the head."""

from torch import Tensor, nn

from ...data.batch.batch import Batch
from ...data.schema.layout import Layout
from ..layers.axes import input_axis
from .sparse_aspect import aspect_projection


class Rates(nn.Module):
    """Rates and counts of a row, through one projection of their own.

    Attributes:
        inputs: name and width of each column, in order.
    """

    def __init__(self, layout: Layout, width: int):
        super().__init__()
        self.columns = layout.rates
        self.inputs = [(name, 1) for name in layout.dense[self.columns]]
        self.projection = aspect_projection(input_axis(self.inputs), width)

    def forward(self, batch: Batch) -> Tensor:
        """``[B, D]``."""
        return self.projection(batch.dense[:, self.columns])
