"""What two representations say together."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ...data.batch.batch import Batch
from ...data.config.sections.entities import TEXT
from ...data.schema.layout import HISTORY, Layout

_PARTNERS = ("user", "query", HISTORY)


def product_partners(owners: Mapping[str, object]) -> tuple[str, ...]:
    """Owners whose vector is multiplied with the item's."""
    return tuple(p for p in _PARTNERS if p in owners) if "item" in owners else ()


class Cosine(NamedTuple):
    """Two contents that are compared: one of the item, and one of a partner."""

    content: str
    partner: str
    of_partner: str

    def __str__(self) -> str:
        if self.content == self.of_partner == TEXT:
            return f"cosine of item and {self.partner}"
        return f"cosine of item {self.content} and {self.partner} {self.of_partner}"


def cosines_of(layout: Layout, owners: Mapping[str, tuple[str, ...]]) -> tuple[Cosine, ...]:
    """What can be compared with the item's contents, where both are in use and of one width.

    A query's contents of the same name or from the same encoder, and the mean of the same content over past items.
    """
    found = []
    for partner in ("query", HISTORY):
        for content, ours in layout.contents_of.get("item", {}).items():
            for of_partner, theirs in layout.contents_of.get(partner, {}).items():
                used = content in owners.get("item", ()) and of_partner in owners.get(partner, ())
                encoders = layout.encoder_of.get(ours), layout.encoder_of.get(theirs)
                alike = content == of_partner or (
                    partner != HISTORY and encoders[0] is not None and encoders[0] == encoders[1]
                )
                if used and alike and layout.vectors[ours] == layout.vectors[theirs]:
                    found.append(Cosine(content, partner, of_partner))
    return tuple(found)


def _as_they_are(owner: str, content: str, vectors: Tensor) -> Tensor:
    return vectors


def cosines(
    layout: Layout, batch: Batch, pairs: tuple[Cosine, ...], seen: Callable[[str, str, Tensor], Tensor] = _as_they_are
) -> Tensor:
    """Cosines of the item's vectors with each partner's; 0 where either is absent.

    They need no training, so they rank items no one has ever seen.

    Args:
        layout: what the batch holds.
        batch: B rows, vectors float32.
        pairs: as from `cosines_of`.
        seen: of an owner, a content and its vectors ``[B, size]``, what is compared.

    Returns:
        ``[B, len(pairs)]`` float32.
    """
    columns = []
    for content, partner, of_partner in pairs:
        item, name = layout.contents_of["item"][content], layout.contents_of[partner][of_partner]
        ours, theirs = seen("item", content, batch.vectors[item]), seen(partner, of_partner, batch.vectors[name])
        lengths = ours.norm(dim=1) * theirs.norm(dim=1)
        cosine = (ours * theirs).sum(1) / lengths.clamp_min(1e-12)
        columns.append(cosine.masked_fill(~(batch.vector_present[item] & batch.vector_present[name]), 0.0))
    return torch.stack(columns, 1)
