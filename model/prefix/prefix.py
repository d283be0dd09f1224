"""A conditioning prefix: further places before the oldest past item, which every past item may attend to.

The idea of telling a model of sequences in words what a user likes is that of Mender (Paischer et al., "Preference Discerning with LLM-Enhanced
Generative Retrieval", 2024).
"""

import torch
from torch import Tensor, nn
from torchrec import KeyedTensor

from ...data.batch.batch import Batch
from ...data.config.sections.model import ModelConfig
from ...data.config.sections.prefix import OWNERS
from ...data.schema.layout import Layout, id_key
from ..layers.axes import declare, named
from ..representation.conditioning import ContentProjection
from ..representation.lookups import lengths, looked_up
from ..representation.sparse_aspect import SparseAspect, aspect_projection

Place = tuple[Tensor, Tensor]
"""``[B, D]``, and ``[B]`` bool: in which rows there is such a place."""


class Prefix(nn.Module):
    """The places of a prefix: each has a projection of its own and an embedding of what kind of place it is.

    What a row does not have, is no place in its sequence.

    Args:
        layout: of the batches.
        config: of the model; its encoder has a ``prefix``.
    """

    def __init__(self, layout: Layout, config: ModelConfig):
        super().__init__()
        self.layout, self.dropout, names = layout, config.history.prefix_dropout, config.prefix
        conditioned = config.content_conditioning != "none"
        contents = layout.contents_of.get("user", {})
        self.places = nn.ModuleDict()
        for name in names:
            if name in OWNERS:
                self.places[name] = OwnerPlace(layout, name, config)
            else:
                key = contents[name]
                self.places[name] = ContentPlace(
                    key, ContentProjection(key, layout.vectors[key], config.width, conditioned)
                )
        self.kinds = nn.Parameter(torch.randn(len(names), config.width) * 0.1)
        declare(self, {"kinds": (named("prefix", names), "width")})
        self.keys = tuple(
            dict.fromkeys(key for place in self.places.values() if isinstance(place, OwnerPlace) for key in place.keys)
        )

    def forward(self, pooled: KeyedTensor, batch: Batch) -> Place:
        """The K places of B rows, ``[B, K, D]``, and ``[B, K]`` bool, which of them there are; in training some are left out.

        Args:
            pooled: key -> ``[P, embedding_dim]``.
            batch: B rows, vectors float32.
        """
        found = looked_up(pooled, batch, self.layout, self.keys)
        filled = lengths(batch, self.layout)[:, : batch.rows] > 0
        places = [place(found, filled, batch) for place in self.places.values()]
        vectors = torch.stack([vector.float() for vector, _ in places], 1) + self.kinds
        there = torch.stack([there for _, there in places], 1)
        if self.training:
            there = there & (torch.rand(there.shape, device=there.device) >= self.dropout)
        return vectors, there


class ContentPlace(nn.Module):
    """A content of the user by itself."""

    def __init__(self, key: str, projection: ContentProjection):
        """Args: name of the vectors in ``Batch.vectors``, and what makes D numbers of them."""
        super().__init__()
        self.key, self.projection = key, projection

    def forward(self, found: dict[str, Tensor], filled: Tensor, batch: Batch) -> Place:
        """As `OwnerPlace`."""
        return self.projection(batch.vectors[self.key]), batch.vector_present[self.key]


class OwnerPlace(nn.Module):
    """A user, a query or an event: the mean of its aspects that there are. Those are contents and features, and the id of a query whose ids are
    looked up; a user's id says nothing of a new user, and its past follows.
    """

    def __init__(self, layout: Layout, owner: str, config: ModelConfig):
        super().__init__()
        self.layout, self.owner = layout, owner
        contents = layout.contents_of.get(owner, {})
        alone = config.prefix if owner == "user" else ()
        conditioned = config.content_conditioning != "none"
        self.contents = nn.ModuleDict(
            {
                name: ContentPlace(key, ContentProjection(key, layout.vectors[key], config.width, conditioned))
                for name, key in contents.items()
                if name not in alone
            }
        )
        with_sparse = any(of.get(owner) for of in (layout.sparse_of, layout.dense_of, layout.vectors_of))
        self.sparse = SparseAspect(layout, owner, config.embedding_dim, config.width) if with_sparse else None
        self.keys = layout.sparse_of.get(owner, ())
        self.id: nn.Module | None = None
        if owner == "query" and owner in layout.entities and config.uses("id"):
            self.keys = (id_key(owner), *self.keys)
            self.id = aspect_projection(config.embedding_dim, config.width)

    def forward(self, found: dict[str, Tensor], filled: Tensor, batch: Batch) -> Place:
        """The place of B rows.

        Args:
            found: key -> ``[B, embedding_dim]``.
            filled: ``[keys, B]`` bool, which keys have an id.
            batch: B rows.
        """
        aspects: list[Place] = [content(found, filled, batch) for content in self.contents.values()]
        if self.sparse is not None:
            columns = batch.dense.index_select(1, self.sparse.columns)
            vectors, present = self.sparse(batch, found, lambda: filled, (columns != 0).any(1))
            aspects.append((vectors, present))
        if self.id is not None:
            seen = batch.id_counts[:, self.layout.entities.index(self.owner)] > 0
            aspects.append((self.id(found[id_key(self.owner)]), seen))
        there = torch.stack([present for _, present in aspects], 1)
        vectors = torch.stack([vector.float() for vector, _ in aspects], 1)
        mean = (vectors * there[:, :, None]).sum(1) / there.sum(1).clamp_min(1)[:, None]
        return mean, there.any(1)
