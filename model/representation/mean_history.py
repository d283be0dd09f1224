"""The user's past items as their mean, per aspect, in the same space an item's aspect has."""

from typing import TYPE_CHECKING, Literal

from torch import Tensor

from ...data.schema.layout import HISTORY, Layout
from ...data.settings_base import Strict

if TYPE_CHECKING:  # TorchRec comes with it, which reading an experiment does without
    from ...data.batch.batch import Batch


class Mean(Strict):
    """The mean of the past items; nothing looks at them one by one."""

    encoder: Literal["mean"] = "mean"


def history_aspects(
    layout: Layout, batch: "Batch", pooled: Tensor, non_empty: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """The mean of the past items, per aspect, before projection.

    A mean commutes with the linear projections of the item, so the encoder can pass it through those.

    Args:
        layout: what the batch holds.
        batch: B rows.
        pooled: ``[B, embedding_dim]``, the mean-pooled lookup of the history.
        non_empty: ``[B]`` bool, whether the row has a history.

    Returns:
        aspect -> (vectors ``[B, embedding_dim]`` or ``[B, size]``, present ``[B]`` bool).
    """
    aspects = {"id": (pooled, non_empty)}
    for content, name in layout.contents_of.get(HISTORY, {}).items():
        aspects[content] = (batch.vectors[name], batch.vector_present[name])
    return aspects
