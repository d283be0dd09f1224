"""The user's past items as their mean, per aspect, in the same space an item's aspect has."""

from collections.abc import Callable, Iterable, Mapping
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
    layout: Layout,
    batch: "Batch",
    names: Iterable[str],
    pooled: Mapping[str, Tensor],
    non_empty: Callable[[], Tensor],
) -> dict[str, tuple[Tensor, Tensor]]:
    """The mean of the past items, per aspect, before projection.

    A mean commutes with the linear projections of the item, so the encoder can pass it through those.

    Args:
        layout: what the batch holds.
        batch: B rows.
        names: of the aspects.
        pooled: key -> ``[B, embedding_dim]``; that of the history need not be there where the id is no aspect.
        non_empty: gives ``[keys, B]`` bool, whether a row has any id of a key.

    Returns:
        aspect -> (vectors ``[B, embedding_dim]`` or ``[B, size]``, present ``[B]`` bool).
    """
    contents = layout.contents_of.get(HISTORY, {})
    return {
        name: (pooled[HISTORY], non_empty()[layout.keys.index(HISTORY)])
        if name == "id"
        else (batch.vectors[contents[name]], batch.vector_present[contents[name]])
        for name in names
    }
