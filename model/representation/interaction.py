"""What two representations say together."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ...data.batch.batch import Batch
from ...data.schema.layout import HISTORY, Layout

_PARTNERS = ("user", "query", HISTORY)


def product_partners(owners: Mapping[str, object]) -> tuple[str, ...]:
    """Owners whose vector is multiplied with the item's."""
    return tuple(p for p in _PARTNERS if p in owners) if "item" in owners else ()


def cosine_partners(layout: Layout, owners: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Owners whose text vector can be compared with the item's: both have one in use, of one width."""

    def size(owner: str) -> int | None:
        return layout.vectors[layout.text_of[owner]] if "text" in owners.get(owner, ()) else None

    return tuple(p for p in ("query", HISTORY) if size("item") is not None and size(p) == size("item"))


def text_cosines(layout: Layout, batch: Batch, partners: tuple[str, ...]) -> Tensor:
    """Cosine of the item's raw text vector with each partner's; 0 where either is absent.

    It needs no training, so it ranks items no one has ever seen.

    Args:
        layout: what the batch holds.
        batch: B rows, vectors float32.
        partners: as from `cosine_partners`.

    Returns:
        ``[B, len(partners)]`` float32.
    """
    item = layout.text_of["item"]
    ours = batch.vectors[item]
    columns = []
    for partner in partners:
        name = layout.text_of[partner]
        theirs = batch.vectors[name]
        lengths = ours.norm(dim=1) * theirs.norm(dim=1)
        cosine = (ours * theirs).sum(1) / lengths.clamp_min(1e-12)
        columns.append(cosine.masked_fill(~(batch.vector_present[item] & batch.vector_present[name]), 0.0))
    return torch.stack(columns, 1)
