"""Finding items among all items: vectors of all of them, and the scores that users give them."""

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ...data.batch.batch import Batch
from ...data.batch.past_items import NONE, Draw, Items, drawn
from ...data.batch.row_encoder import RowEncoder
from ...data.contents.content_table import picked
from ...data.schema.layout import content_key
from ...data.schema.sizes import padded_rows
from ...data.vocabulary.vocabulary import KeyIndex
from ...model.foundation.mean_of_models import models_in
from ..logs.progress import Progress
from ..ranks.runtime import Runtime
from ..run.finite import usable
from .alike import Cosines, EqualCodes, Likeness
from .by_codes import decoder_of, ranking_by_codes
from .rankings import ByVectors, Ranking


def draw_candidates(encoder: RowEncoder, rank: int) -> Callable[[int], Draw]:
    """Epoch -> what draws its steps' candidates; seed, epoch, rank and step decide."""
    objective, training = encoder.experiment.model.next_item, encoder.experiment.training
    if objective is None or encoder.experiment.model.target is not None:
        return lambda epoch: lambda step: NONE
    items, everything = encoder.items(trained=True), objective.loss == "softmax"
    if (of_domain := encoder.item_counts.of_domain) is not None:
        items = replace(items, of_domain=of_domain[items.rows])
    padded = padded_rows(training.batch_size, len(encoder.layout.domains))
    return lambda epoch: drawn(items, encoder.layout, padded, everything, (encoder.experiment.seed, epoch, rank))


def item_vectors(model: nn.Module, encoder: RowEncoder, items: Items, runtime: Runtime) -> Tensor:
    """``[C, D]`` float32 on every rank, each rank having computed its part; zeros for an item of which nothing is known.

    Args:
        model: with a next-item objective, not in training.
        encoder: of the experiment.
        items: C of them.
        runtime: the process group.
    """
    padded = padded_rows(encoder.experiment.training.batch_size, len(encoder.layout.domains))
    size, ranks = encoder.layout.candidates * padded, runtime.world_size
    vectors = torch.zeros(len(items), encoder.experiment.model.width * models_in(model))
    with torch.no_grad(), Progress("computing item vectors", "items", len(items), main=runtime.is_main) as done:
        for start in range(0, len(items), size * ranks):  # as often on every rank: a lookup needs all of them
            at = np.arange(start + runtime.rank * size, min(start + (runtime.rank + 1) * size, len(items)))
            batch = encoder.assemble([encoder.no_rows()], padded, items.take(at))
            _, outputs = model(batch.to(runtime.device))
            vectors[torch.from_numpy(at)] = outputs.candidates.float().cpu()
            done.add(size * ranks)
    return runtime.sum(vectors.to(runtime.device))


class Retriever:
    """All items, and the scores that users give them.

    Attributes:
        items: C of them.
        unknown: ``[C]`` bool, items of which neither id nor content nor a named feature is known, or no number came out; where they are
            found by codes, those without any.
        no_number: ``[C]`` bool, those of them that no number came out of.
        ranking: by what users rank them.
    """

    def __init__(self, model: nn.Module, encoder: RowEncoder, runtime: Runtime):
        """Computes the vectors of all items there are, or looks up their codes; on every rank, the model not in training."""
        self._models: int = models_in(model)
        self._width: int | None = None
        self.items = encoder.items(trained=False)
        self._index, self._encoder, self._device = KeyIndex(self.items.keys), encoder, runtime.device
        self.ranking: Ranking
        if (target := encoder.experiment.model.target) is not None:
            name = content_key("item", target)
            codes, there = picked(encoder.contents[name].vectors, self.items.content_rows[name])
            self.unknown, self.no_number = (of.to(runtime.device) for of in (~there, torch.zeros_like(there)))
            decoder, codes = decoder_of(model), codes.to(runtime.device)
            self.ranking = ranking_by_codes(decoder, codes, self.unknown)
            self._likeness: Callable[[], Likeness] = partial(EqualCodes, codes, ~self.unknown)
            return
        self._vectors = vectors = item_vectors(model, encoder, self.items, runtime)
        self.no_number = ~usable(vectors)
        vectors[self.no_number] = 0
        self.unknown = (vectors == 0).all(1)
        self.ranking = ByVectors(vectors, self.unknown)
        self._likeness = partial(Cosines, vectors)

    def likeness(self, content: str | None = None) -> Likeness:
        """How alike items are by a content that the run reads, or by what it looks for them by: their vectors, or their codes."""
        if content is None:
            return self._likeness()
        key = content_key("item", content)
        vectors, rows = self._encoder.contents[key].vectors, self.items.content_rows[key]
        if key in self._encoder.layout.codes:
            codes, there = picked(vectors, rows)
            return EqualCodes(codes.to(self._device), there)
        return Cosines(vectors, torch.from_numpy(rows), self._device)

    def narrower(self, width: int | None) -> "Retriever":
        """The same items, found by so many leading numbers of their vectors and of users'; None: by all."""
        if width is None:
            return self
        other = copy(self)
        other._width = width
        other._vectors = other.cut(self._vectors)
        other.ranking, other._likeness = ByVectors(other._vectors, self.unknown), partial(Cosines, other._vectors)
        return other

    def cut(self, vectors: Tensor) -> Tensor:
        """``[B, U]`` of users or items, which of several models are side by side, as wide as items are found by them."""
        if self._width is None:
            return vectors
        return vectors.view(len(vectors), self._models, -1)[:, :, : self._width].flatten(1)

    def place_of_keys(self, keys: np.ndarray) -> np.ndarray:
        """``[N]`` position among all items of each key; -1 for one that is not among them."""
        return self._index.lookup(keys)

    def past_of(self, batch: Batch, columns: int) -> tuple[Tensor, Tensor]:
        """Row and position among all items of each past item that is one of them; of a batch on the host, with keys."""
        past = batch.past
        assert past is not None
        places = torch.from_numpy(self.place_of_keys(past.keys.numpy().view(np.uint64)).astype(np.int64))
        return (past.at // columns)[places >= 0], places[places >= 0]
