"""User, query, item, history and context: from lookups and vectors to one vector each."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...data.batch.batch import Batch
from ...data.config.sections.entities import Stored
from ...data.errors import UserError
from ...data.schema.layout import CONTEXT, HISTORY, RATES, Layout, id_key
from ..codes.code_aspect import CodeAspect
from ..gates.weighted_sum import alone, stacked
from ..layers.axes import Axis, at_level, declare, named
from .conditioning import ContentProjection
from .id_state import Hiding, IdFromText, UnknownId
from .lookups import lengths
from .mean_history import history_aspects
from .sparse_aspect import Gathered, PooledFeatures, SparseAspect, aspect_projection, picked

Aspects = dict[str, tuple[Tensor, Any]]


def owners_and_aspects(layout: Layout, wanted: Iterable[str], items_only: bool = False) -> dict[str, tuple[str, ...]]:
    """Owner (entity, ``history`` or ``context``) -> its aspects, in a fixed order; owners without any are left out.

    Args:
        layout: what the batch holds.
        wanted: the experiment's ``model.aspects``; all there are where it is empty.
        items_only: the item alone, as `OwnerVectors.items` needs it.

    Raises:
        UserError: nothing of what is wanted is in the data.
    """
    wanted = set(wanted)
    pooled = [HISTORY] if layout.history and not layout.past else []
    owners = ("item",) if items_only else (*layout.entities, *pooled, CONTEXT)
    found = {}
    for owner in owners:
        sparse = (layout.sparse_of, layout.dense_of, layout.vectors_of)
        with_sparse = any(of.get(owner) for of in sparse)
        contents = list(layout.contents_of.get(owner, {}))
        if items_only:
            with_sparse = _with_past_features(layout)
            contents = [name for name in contents if layout.contents_of[owner][name] in layout.past_contents]
        there = ["id"] * (owner != CONTEXT) + contents + ["sparse"] * with_sparse
        if aspects := tuple(aspect for aspect in there if not wanted or aspect in wanted):
            found[owner] = aspects
    if not found:
        raise UserError(
            "experiment: model.aspects",
            f"no entity has any of {sorted(wanted)}",
            "Add an aspect, or give the entities contents or features.",
        )
    return found


class Gate(Protocol):
    """One of `gates`, by its settings."""

    def build(self, width: int, aspects: Axis) -> nn.Module:
        """The module."""
        ...


class OwnerVectors(nn.Module):
    """One vector per owner: its aspects projected to width D, then fused by a gate.

    The history is a mean of items, so it goes through the item's projections and lands in the item's space.

    Args:
        layout: what the batch holds.
        aspects: aspects in use: ``id``, ``sparse`` and contents by name; all where it is empty.
        embedding_dim: width of the lookups.
        width: D.
        gate: what fuses two aspects or more; one needs no choosing.
        hiding: which ids are hidden in training, so that the other aspects learn to stand alone.
        unknown_id: whether an id that is unseen or hidden has a learned vector; without, its aspect is missing.
        id_from_text: whether entities with an id and a content have an `IdFromText`.
        items_only: for items one by one alone, as of `items`.
        conditioned: whether vectors of contents are `Conditioned`.

    Attributes:
        owners: owner -> its aspects, the columns of its gate weights.
    """

    def __init__(
        self,
        layout: Layout,
        aspects: Iterable[str],
        embedding_dim: int,
        width: int,
        gate: Gate,
        hiding: Hiding,
        unknown_id: bool,
        id_from_text: bool,
        items_only: bool = False,
        conditioned: bool = False,
    ):
        super().__init__()
        self.layout, self.width = layout, width
        self.hiding = hiding
        self.tells_known = RATES in layout.dense_of
        self.owners = owners_and_aspects(layout, aspects, items_only)
        projected = {o: a for o, a in self.owners.items() if o not in (HISTORY, CONTEXT)}
        self.id_projections = nn.ModuleDict(
            {o: aspect_projection(embedding_dim, width) for o, a in projected.items() if "id" in a}
        )
        # Of all contents; the name is the one that checkpoints have of it.
        self.text_projections = nn.ModuleDict(
            {
                Stored(o, content).name: CodeAspect(layout.codes[name], width)
                if name in layout.codes
                else ContentProjection(name, layout.vectors[name], width, conditioned)
                for o in projected
                for content in self._contents(o)
                for name in [layout.contents_of[o][content]]
            }
        )
        at_level("L0", self.text_projections)
        # What nothing learns must not be there to begin a ranking model with.
        of_features = _past_features_only(layout) if items_only else layout
        self.sparse_aspects = nn.ModuleDict(
            {o: SparseAspect(of_features, o, embedding_dim, width) for o, a in self.owners.items() if "sparse" in a}
        )
        self.gates = nn.ModuleDict(
            {o: gate.build(width, named("aspect", a)) for o, a in self.owners.items() if len(a) > 1}
        )
        both = [o for o, a in projected.items() if "id" in a and self._contents(o)] if id_from_text else []
        self.ids_from_text = nn.ModuleDict({o: IdFromText(width, len(self._contents(o))) for o in both})
        with_others = [o for o, a in projected.items() if a[0] == "id" and len(a) > 1] if unknown_id else []
        self.unknown_ids = nn.ModuleDict({o: UnknownId(width) for o in with_others})
        if "query" in self.owners:
            self.no_query = nn.Parameter(torch.randn(width) * 0.1)
            declare(self, {"no_query": ("width",)})

    def forward(
        self, pooled: Mapping[str, Tensor], batch: Batch, domains: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], Tensor | None]:
        """Fused vectors, gate weights, which ids are known, and what those predicted from texts are off by.

        Args:
            pooled: key -> ``[B, embedding_dim]``.
            batch: B rows, vectors float32.
            domains: ``[B, D]``, the embedding of each row's domain.

        Returns:
            owner -> ``[B, D]`` float32; owner -> ``[B, A]`` float32; entity with the aspect id -> ``[B]`` bool, whether the id was seen
            in training and is not hidden, where rates look at that; and the sum over rows of `IdFromText`'s errors, a scalar, or None.
        """
        there: list[Tensor] = []  # worked out once; functools' cache is not for torch.compile

        def non_empty() -> Tensor:
            if not there:
                there.append(lengths(batch, self.layout)[:, : batch.rows] > 0)
            return there[0]

        fused, weights, known, errors = {}, {}, {}, []
        for owner, names in self.owners.items():
            found = self._aspects(owner, batch, pooled, non_empty)
            if len(names) == 1:
                fused[owner], weights[owner] = alone(*found[names[0]])
                seen = self._counts(owner, batch) if self.tells_known else None
            else:
                aspects, present = stacked([found[name] for name in names])
                with torch.autocast(aspects.device.type, enabled=False):
                    aspects, present, seen, error = self._completed(owner, aspects, present, self._counts(owner, batch))
                    errors += [] if error is None else [error]
                    fused[owner], weights[owner] = self.gates[owner](aspects, present, domains, seen)
            if self.tells_known and seen is not None and owner in self.layout.entities and names[0] == "id":
                known[owner] = seen > 0
            if owner == "query":
                # A query never seen before is still a query: only a row that names none and has nothing of one is without.
                absent = (weights[owner] == 0).all(1) & (batch.id_counts[:, self.layout.entities.index("query")] < 0)
                fused[owner] = torch.where(absent[:, None], self.no_query, fused[owner])
        return fused, weights, known, torch.stack(errors).sum() if errors else None

    def code_embeddings(self, content: str | None) -> Tensor | None:
        """``[V of all levels, D]``, of items' codes by the name of their content; None where they are no aspect."""
        if "item" not in self.owners or content not in self._contents("item"):
            return None
        aspect = self.text_projections[Stored("item", content).name]
        assert isinstance(aspect, CodeAspect)
        return aspect.embeddings.weight

    def _contents(self, owner: str) -> list[str]:
        """Those of its aspects that are contents."""
        return [aspect for aspect in self.owners[owner] if aspect in self.layout.contents_of.get(owner, {})]

    def items(
        self, ids: Tensor, counts: Tensor, vectors: Gathered, described: PooledFeatures, domain: Tensor
    ) -> Tensor:
        """Vectors of items that are not the rows' own: their aspects, fused by the item's gate as of no domain in particular.

        Args:
            ids: ``[N, embedding_dim]`` lookups.
            counts: ``[N]`` float32, how often each was seen in training; the id of one never seen has no part.
            vectors: of their contents and vector features; what is not there, no item has.
            described: their other features.
            domain: ``[D]``, in place of a row's domain.

        Returns:
            ``[N, D]`` float32; zeros for an item that has none of them.
        """
        names = self.owners["item"]
        nothing = torch.zeros(len(ids), self.width, device=ids.device)
        found = dict.fromkeys(names, (nothing, torch.zeros_like(counts, dtype=torch.bool)))
        if "id" in names:
            found["id"] = (self._project("item", "id", ids), counts > 0)
        for content in self._contents("item"):
            if (name := self.layout.contents_of["item"][content]) in vectors:
                distinct, at = vectors[name]
                found[content] = (picked(self._project("item", content, distinct), at), at >= 0)
        if "sparse" in names and _with_past_features(self.layout):
            aspect = self.sparse_aspects["item"]
            assert isinstance(aspect, SparseAspect)
            found["sparse"] = (aspect.of_items(described.lookups, described.dense, vectors), described.present)
        if len(names) == 1:
            return alone(*found[names[0]])[0]
        aspects, present = stacked([found[name] for name in names])
        with torch.autocast(aspects.device.type, enabled=False):
            aspects, present, seen, _ = self._completed("item", aspects, present, counts)
            return self.gates["item"](aspects, present, domain.expand(len(ids), -1), seen)[0]

    def _completed(
        self, owner: str, aspects: Tensor, present: Tensor, counts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """What the gate gets: in training some ids are hidden; what is known of the entity stands in for an id that is not.

        One rule for rows, past items and candidates. An id is replaced only where another aspect is present, as it is hidden only there:
        of what has nothing else there is no state that training could know.

        Args:
            owner: whose aspects they are.
            aspects: ``[N, A, D]`` float32.
            present: ``[N, A]`` bool.
            counts: ``[N]`` float32, of the ids.

        Returns:
            Both; the counts as the gate may know them, 0 for a hidden id; and the summed error of ids predicted from texts, a scalar, or
            None where none are.
        """
        error = None
        if self.owners[owner][0] != "id":
            return aspects, present, counts, error
        if self.training and owner != HISTORY:
            present = self.hiding.hide(owner, present, counts)
        seen = counts * present[:, 0]
        if owner in self.ids_from_text:
            aspects, present, error = self.ids_from_text[owner](aspects, present, counts)
        item = "item" if owner == HISTORY else owner  # a history is a mean of items
        if item in self.unknown_ids:
            aspects, present = self.unknown_ids[item](aspects, present)
        return aspects, present, seen, error

    def centred(self, owner: str, content: str, vectors: Tensor) -> Tensor:
        """``[N, size]`` vectors of one of its contents, those of the history being the item's, without their mean."""
        projection = self.text_projections[Stored("item" if owner == HISTORY else owner, content).name]
        assert isinstance(projection, ContentProjection)
        return vectors if projection.conditioned is None else projection.conditioned.centred(vectors)

    def _counts(self, owner: str, batch: Batch) -> Tensor:
        """``[B]`` how often the owner's id was seen in training; 0 where it has none."""
        if owner not in self.layout.entities:
            return torch.zeros_like(batch.domains, dtype=torch.float32)
        return batch.id_counts[:, self.layout.entities.index(owner)].clamp_min(0)

    def _aspects(
        self, owner: str, batch: Batch, pooled: Mapping[str, Tensor], non_empty: Callable[[], Tensor]
    ) -> Aspects:
        """Aspect -> (``[B, D]``, present ``[B]`` bool, None for one that is in all rows) of one owner."""
        layout, names = self.layout, self.owners[owner]
        if owner == HISTORY:
            found = history_aspects(layout, batch, names, pooled, non_empty)
            return {name: (self._project("item", name, x), present) for name, (x, present) in found.items()}
        found = {}
        exists = None
        if owner != CONTEXT:
            counts = batch.id_counts[:, layout.entities.index(owner)]
            if "sparse" in names:
                exists = counts >= 0
            if "id" in names:
                found["id"] = (self._project(owner, "id", pooled[id_key(owner)]), counts > 0)
        for content in self._contents(owner):
            name = layout.contents_of[owner][content]
            found[content] = (self._project(owner, content, batch.vectors[name]), batch.vector_present[name])
        if "sparse" in names:
            found["sparse"] = self.sparse_aspects[owner](batch, pooled, non_empty, exists)
        return found

    def _project(self, entity: str, aspect: str, vectors: Tensor) -> Tensor:
        if aspect == "id":
            return self.id_projections[entity](vectors)
        return self.text_projections[Stored(entity, aspect).name](vectors)


def _with_past_features(layout: Layout) -> bool:
    return bool(layout.past_features or layout.past_dense or layout.past_vectors)


def _past_features_only(layout: Layout) -> Layout:
    """With no features but those that past items have."""
    return replace(
        layout,
        sparse_of={"item": layout.past_features},
        dense_of={"item": layout.past_dense},
        vectors_of={"item": layout.past_vectors},
    )
