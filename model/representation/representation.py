"""From lookups, numbers and vectors to one input per row, for the domain-adaptive layer and the head.

Where there is no domain-adaptive layer, which tells the domains apart, the row's domain embedding is part of the input.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torchrec import KeyedTensor

from ...data.batch.batch import Batch
from ...data.config.sections.model import ModelConfig
from ...data.schema.layout import BIAS, HISTORY, RATES, SIMILARITY, Layout, id_key
from ..layers.fast import fast_on_gpu
from ..layers.forms import EVERY, as_autocast
from .conditioning import Conditioned, own_vectors
from .id_state import Hiding
from .interaction import cosines, cosines_of, product_partners
from .lookups import GroupedLookups, looked_up
from .owner_vectors import OwnerVectors
from .rates import Rates

Represented = tuple[Tensor, dict[str, Tensor], Tensor | None]


class Owners(nn.Module):
    """One vector per owner, its aspects fused by a gate; products with the item's, cosines of contents, and how alike the item is to
    each past one.

    Attributes:
        inputs: name and width of each part of what it gives, in order.
        size: I, their sum.
        learned: its columns that depend on parameters.
    """

    learned = EVERY

    def __init__(self, layout: Layout, config: ModelConfig):
        super().__init__()
        self.layout = layout
        self.encoder = _owner_vectors(layout, config)
        self.lookups = GroupedLookups(layout, _taken_together(layout, self.encoder.owners))
        owners = dict(self.encoder.owners)
        if layout.past:
            owners[HISTORY] = ()
        self.products = product_partners(owners) if config.interaction else ()
        self.cosines = cosines_of(layout, owners) if config.interaction else ()
        self.similar = len(layout.dense_of.get(SIMILARITY, ()))  # of numbers, the first ones
        self.with_domain = config.domain_width == 0
        self.inputs = [(owner, config.width) for owner in owners]
        self.inputs += [(f"item x {partner}", config.width) for partner in self.products]
        self.inputs += [(str(pair), 1) for pair in self.cosines]
        self.inputs += [(name, 1) for name in layout.dense[: self.similar]]
        self.inputs += [("domain", config.width)] * self.with_domain
        self.rates = Rates(layout, config.width) if RATES in layout.dense_of else None
        self.inputs += [(RATES, config.width)] * (self.rates is not None)
        self.size = sum(size for _, size in self.inputs)

    def forward(
        self, pooled: KeyedTensor, batch: Batch, domains: Tensor, history: Callable[[Tensor], Tensor] | None = None
    ) -> Represented:
        """``[B, I]``; the gates: owner -> ``[B, A]``; and the summed error of ids predicted from texts, a scalar or None.

        ``pooled`` as in `Dense`, ``domains`` ``[B, D]``; ``history`` gives that owner's vectors, knowing the items at hand ``[B, D]``.
        """
        found = self.lookups(pooled, batch) if fast_on_gpu(batch.dense) else looked_up(pooled, batch, self.layout)
        fused, gates, known, off = self.encoder(found, batch, domains)
        if history is not None:
            fused[HISTORY] = history(fused["item"])
        parts = [*fused.values(), *(fused["item"] * fused[partner] for partner in self.products)]
        if self.cosines:
            parts.append(cosines(self.layout, batch, self.cosines, self.encoder.centred))
        if self.similar:
            parts.append(batch.dense[:, : self.similar])
        if self.with_domain:
            parts.append(domains)
        if self.rates is not None:
            parts.append(self.rates(batch, known))
        return torch.cat(parts, 1), gates, off


class ItemsOnly(nn.Module):
    """Items one by one, for a model without tasks: there is nothing to represent a whole row for."""

    def __init__(self, layout: Layout, config: ModelConfig):
        super().__init__()
        self.encoder = _owner_vectors(layout, config, items_only=True)
        self.inputs: list[tuple[str, int]] = []


def _taken_together(layout: Layout, owners: Mapping[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Keys of lookups in groups: the id of each owner that has the aspect, and all features of one."""
    found: list[tuple[str, ...]] = []
    for owner, aspects in owners.items():
        if "id" in aspects:
            found.append((HISTORY if owner == HISTORY else id_key(owner),))
        if "sparse" in aspects and (keys := layout.sparse_of.get(owner, ())):
            found.append(tuple(keys))
    return found


def _owner_vectors(layout: Layout, config: ModelConfig, items_only: bool = False) -> OwnerVectors:
    with_ids_from_text = config.id_from_text > 0
    return OwnerVectors(
        layout,
        config.aspects,
        config.embedding_dim,
        config.width,
        config.gate,
        Hiding(config.id_dropout, {"item": config.hide_rare_items}),
        config.unknown_id == "learned",
        with_ids_from_text and not items_only,
        items_only,
        config.content_conditioning != "none",
    )


class SideBySide(nn.Module):
    """Everything a row has but features with ``bias``, concatenated: lookups, numbers, vectors. What is missing is zeros.

    The input of plain multi-task models; ``model.aspects`` and ``model.interaction`` have no part in it.

    Attributes:
        inputs: name and width of each part of what it gives, in order.
        size: I, their sum.
        learned: its columns that depend on parameters; numbers and vectors do not.
    """

    def __init__(self, layout: Layout, config: ModelConfig):
        super().__init__()
        without = {*layout.sparse_of.get(BIAS, ()), *layout.vectors_of.get(BIAS, ())}
        self.layout, self.vectors = layout, tuple(name for name in layout.vectors if name not in without)
        self.own = own_vectors(layout) if config.content_conditioning != "none" else {}
        self.conditioned = nn.ModuleDict({n: Conditioned(n, layout.vectors[n]) for n in self.own.values()})
        self.with_domain = config.domain_width == 0
        self.lookups = [
            key
            for table in layout.tables
            for key in layout.keys
            if layout.table_of[key] == table and key not in without
        ]
        self.columns = len(layout.dense) - len(layout.dense_of.get(BIAS, ()))  # of numbers, the first ones
        self.inputs = [(key, config.embedding_dim) for key in self.lookups]
        self.inputs += [(name, 1) for name in layout.dense[: self.columns]]
        self.inputs += [(name, layout.vectors[name]) for name in self.vectors]
        self.inputs += [("domain", config.width)] * self.with_domain
        self.size = sum(size for _, size in self.inputs)
        of_tables = len(self.lookups) * config.embedding_dim
        self.learned = (slice(0, of_tables), slice(self.size - config.width * self.with_domain, self.size))

    def forward(self, pooled: KeyedTensor, batch: Batch, domains: Tensor, history: None = None) -> Represented:
        """``[B, I]``, no gates, and no error. ``pooled`` as in `Dense`, ``domains`` ``[B, D]``."""
        found = looked_up(pooled, batch, self.layout)
        parts = [*(found[key] for key in self.lookups), batch.dense[:, : self.columns]]
        parts += [self._seen(name, batch) for name in self.vectors]
        if self.with_domain:
            parts.append(domains)
        return torch.cat(as_autocast(*parts), 1), {}, None  # narrowed first: half as much to copy

    def _seen(self, name: str, batch: Batch) -> Tensor:
        vectors = batch.vectors[name]
        if name not in self.own:
            return vectors
        return self.conditioned[self.own[name]](vectors) * batch.vector_present[name].unsqueeze(1)
