"""What items are tokenized from: their contents and what a model has learnt of them side by side, or their places in a graph."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ...data.arrow.ids import id_keys
from ...data.arrow.values import vector_rows
from ...data.catalogs.catalog import read_catalog
from ...data.codes.co_occurrence import Graph, graph_of, leading_places, pairs_of
from ...data.config.experiment import Experiment
from ...data.config.sections.entities import Stored
from ...data.content_kinds.codes import Codes, OfVectors
from ...data.contents.content_store import check_store, open_store, read_only, store_folder
from ...data.contents.content_table import ContentTable, picked
from ...data.errors import UserError
from ...data.events.check_events import check_events
from ...data.storage.mirror import mirrored
from ...data.vocabulary.vocabulary import KeyIndex
from ...model.tokenizers.items import BLOCK, FINE, Codebook, Items
from ..ranks.runtime import Runtime
from ..retrieval.retrieval import item_vectors
from ..run.finite import usable
from ..score.score import model_of

RUN = "(run)"
"""Stands beside the contents, of which none can have that name."""
PLACED, PLACES = "placed", "places"
"""In a codebook: keys of items, and their places in the graph."""
_MEAN, _SCALE = "mean.{}", "scale.{}"


@dataclass(frozen=True)
class Sources:
    """What is known of the items of a catalog.

    Attributes:
        ids: of the items, in the catalog's type.
        keys: ``[C]`` uint64 of these.
        columns: of the catalog, those that the method reads.
        contents: name -> vectors, and which of these is each item's, ``[C]`` int64; -1: none.
        graph: which items are together in training rows; None where nobody asks.
        places: ``[C, D]`` in the graph; None where nobody asks.
        seed: of what is random.
        standardises: whether vectors are standardised by what is fitted on them; else each has length 1.
        smoothing: share of a vector that its neighbours' mean takes.
    """

    ids: pa.Array
    keys: np.ndarray
    columns: pa.Table
    contents: Mapping[str, tuple[Tensor, np.ndarray]]
    graph: Graph | None
    places: Tensor | None
    seed: int
    standardises: bool
    smoothing: float

    @property
    def with_something(self) -> np.ndarray:
        """``[C]`` bool, which items have any vector; all where none are taken."""
        if not self.contents:
            return np.ones(len(self.keys), bool)
        return np.any([rows >= 0 for _, rows in self.contents.values()], 0)

    def placed(self, codebook: Codebook | None, dimension: int) -> "Sources":
        """With places ``[C, D]`` float32 in the graph: its leading directions, or, where a codebook has places already, these, and of further items
        the mean of those that they are with."""
        assert self.graph is not None
        if codebook is None:
            generator = torch.Generator().manual_seed(self.seed)
            # As they are kept: what goes on from these finds the same.
            return replace(self, places=leading_places(self.graph, dimension, generator).half().float())
        held = KeyIndex(codebook[PLACED].numpy().view(np.uint64)).lookup(self.keys).astype(np.int64)
        at = torch.from_numpy(held)
        known = codebook[PLACES].float()[at.clamp_min(0)] * (at >= 0)[:, None]
        row, other, weight = self.graph.of(np.flatnonzero(held < 0))
        beside = torch.zeros(int((held < 0).sum()), known.shape[1])
        beside.index_add_(0, torch.from_numpy(row), known[torch.from_numpy(other)] * torch.from_numpy(weight)[:, None])
        known[at < 0] = beside / beside.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return replace(self, places=known)

    def items(self, codebook: Codebook, runtime: Runtime, told: Callable[[int], None]) -> Items:
        """The items as a method sees them, blocks dealt to ranks.

        Args:
            codebook: with what `standardised` has put there.
            runtime: the ranks.
            told: as of `Items`.
        """
        vectors = self._in_graph if self.places is not None else self._smoothed(codebook) if self.contents else None
        return Items(
            self.keys,
            vectors,
            self.columns,
            self.seed,
            lambda block: block % runtime.world_size == runtime.rank,
            lambda values: runtime.sum(torch.from_numpy(values)).numpy() if runtime.world_size > 1 else values,
            told,
        )

    def standardised(self, runtime: Runtime) -> Codebook:
        """Of each content the mean of its vectors ``[d]``, and one over their deviation ``[1]``: contents side by side weigh alike."""
        found: Codebook = {}
        for name, (vectors, rows) in self.contents.items() if self.standardises else ():
            width = vectors.shape[1]
            starts = range(0, len(rows), BLOCK)[runtime.rank :: runtime.world_size]
            most = max((picked(vectors, rows[at : at + BLOCK])[0].abs().max().item() for at in starts), default=0.0)
            # Sums are of whole numbers, whatever is added first; of numbers up to 1 these stay far from too large.
            most = max(-runtime.least(torch.tensor([-most], dtype=torch.float64)).item(), 1e-30)
            total = np.zeros(width + 2, np.int64)
            for start in starts:
                x, there = picked(vectors, rows[start : start + BLOCK])
                x = x.double() / most
                total += torch.cat([x.sum(0), (x * x).sum()[None], there.sum()[None]]).mul(FINE).round().long().numpy()
            sums = runtime.sum(torch.from_numpy(total)).double() / FINE
            count = sums[-1].clamp_min(1)
            mean = sums[:width] / count
            spread = (sums[width] / count - (mean * mean).sum()).clamp_min(0).sqrt() * most
            found[_MEAN.format(name)] = (mean * most).float()
            found[_SCALE.format(name)] = torch.where(spread > 1e-6 * most, 1 / spread, 0.0)[None].float()
        return found

    def _smoothed(self, codebook: Codebook) -> Callable[[np.ndarray], Tensor]:
        def vectors(at: np.ndarray) -> Tensor:
            x = self._vectors(codebook, at)
            if self.graph is None or not self.smoothing:
                return x
            row, other, weight = self.graph.of(at)
            sums, total = torch.zeros_like(x), torch.zeros(len(x))
            distinct, place = np.unique(other, return_inverse=True)
            of_others = self._vectors(codebook, distinct)
            rows, weights = torch.from_numpy(row), torch.from_numpy(weight * self.with_something[other])
            # Item after item and pair after pair: the same sum in any block.
            sums.index_add_(0, rows, of_others[torch.from_numpy(place)] * weights[:, None])
            total.index_add_(0, rows, weights)
            mean = sums / total.clamp_min(1e-12)[:, None]
            return torch.where(total[:, None] > 0, (1 - self.smoothing) * x + self.smoothing * mean, x)

        return vectors

    def _vectors(self, codebook: Codebook, at: np.ndarray) -> Tensor:
        parts = []
        for name, (vectors, rows) in self.contents.items():
            x, there = picked(vectors, rows[at])
            x = x.float()
            if self.standardises:
                x = (x - codebook[_MEAN.format(name)]) * codebook[_SCALE.format(name)]
            else:
                x = x / x.norm(dim=1, keepdim=True).clamp_min(1e-12) * len(self.contents) ** -0.5
            parts.append(x * there[:, None])
        return torch.cat(parts, 1)

    def _in_graph(self, at: np.ndarray) -> Tensor:
        assert self.places is not None
        return self.places[torch.from_numpy(at)]


def sources(experiment: Experiment, of: Stored, content: Codes, runtime: Runtime) -> Sources:
    """Opens what the codes of a content are made of. A collective.

    Raises:
        UserError: a content has no vectors yet, the run is none that finds items by their vectors, or bad events.
    """
    method, entity = content.codes, experiment.entities.item
    assert entity.catalog is not None
    table = read_catalog("item", entity, [need.name for need in method.needs])
    # By key: the order of the catalog, which may tell what came when, has no part in codes.
    order = np.argsort(id_keys(table[entity.catalog.key])[0], kind="stable")
    table = table.take(pa.array(order))
    keys, _ = id_keys(table[entity.catalog.key])
    contents = {name: _rows_of(experiment, name, keys, order) for name in experiment.inputs_of(content)}
    if isinstance(method, OfVectors) and method.run is not None:
        contents[RUN] = _of_run(method.run, keys, runtime)
    if isinstance(method, OfVectors) and not contents:
        raise UserError(
            f"entities.item.contents.{of.content}.codes: {method.method}",
            "are made of vectors, and items have none",
            "Give them a text or a vector, or name a run.",
        )
    graph = _graph(experiment, keys, runtime) if method.graph else None
    ids = table[entity.catalog.key].combine_chunks()
    smoothing = method.smoothing if isinstance(method, OfVectors) else 0.0
    return Sources(ids, keys, table, contents, graph, None, method.seed, not method.any_catalog, smoothing)


def _rows_of(experiment: Experiment, name: str, keys: np.ndarray, order: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """A content's vectors, and which of them each item has; ``order`` is where the items are in the catalog."""
    entity = experiment.entities.item
    assert entity.catalog is not None
    if (given := entity.given(in_catalog=True).get(name)) is not None:
        column = read_catalog("item", entity, [given.vector])[given.vector]
        vectors, there = vector_rows(column, given.size, f"{entity.catalog.path}: column '{given.vector}'")
        return read_only(vectors), np.where(there[order], order, -1)
    of = Stored("item", name)
    store = open_store(store_folder(experiment, of))
    check_store(store, experiment, of)
    table = ContentTable(store.vectors, KeyIndex(id_keys(store.keys)[0]), store.row_of_key.astype(np.int64))
    return store.vectors, table.rows(keys)


def _of_run(run: str, keys: np.ndarray, runtime: Runtime) -> tuple[Tensor, np.ndarray]:
    """What a run has learnt of items."""
    encoder, model, _ = model_of(Path(mirrored(run, "read")), runtime)
    objective = encoder.experiment.model.next_item
    if objective is None or encoder.experiment.model.target is not None:
        raise UserError(
            f"codes.run: {run}",
            "does not find items by their vectors",
            "Name a run with model.next_item, target: item.",
        )
    items = encoder.items(trained=False)
    vectors = item_vectors(model, encoder, items, runtime).cpu()
    vectors[~usable(vectors)] = 0  # no number: as if nothing was learnt
    at = KeyIndex(items.keys).lookup(keys).astype(np.int64)
    there = (at >= 0) & (vectors[torch.from_numpy(np.maximum(at, 0))] != 0).any(1).numpy()
    return vectors, np.where(there, at, -1)


def _graph(experiment: Experiment, keys: np.ndarray, runtime: Runtime) -> Graph:
    """Of the training events alone; ranks read their share of the row groups."""
    events = runtime.on_main(lambda: check_events(experiment, ("train",)))
    train = {name: of_domain["train"] for name, of_domain in events.items()}
    mine = slice(runtime.rank, None, runtime.world_size)
    return graph_of(runtime.on_each(lambda: pairs_of(experiment, train, keys, mine)), len(keys))
