"""Finding the next item among all items: vectors of all of them, and where the one that came ranks."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.batch.batch import Batch
from ...data.batch.past_items import NONE, Draw, Items, drawn
from ...data.batch.row_encoder import RowEncoder
from ...data.epoch.order import deal, ordered_chunks
from ...data.epoch.reader import Reader
from ...data.events.event_files import EventFiles
from ...data.prefetch import prefetch
from ...data.schema.layout import padded_rows
from ...data.vocabulary.vocabulary import KeyIndex
from ..ranks.runtime import Runtime
from ..run.finite import usable
from .products import NEVER, Products
from .search import CELLS

CUTOFFS = (5, 10, 20)


def draw_candidates(encoder: RowEncoder, rank: int) -> Callable[[int], Draw]:
    """Epoch -> what draws its steps' candidates; seed, epoch, rank and step decide."""
    objective, training = encoder.experiment.model.next_item, encoder.experiment.training
    if objective is None:
        return lambda epoch: lambda step: NONE
    items, everything = encoder.items(trained=True), objective.loss == "softmax"
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
    vectors = torch.zeros(len(items), encoder.experiment.model.width)
    with torch.no_grad():
        for start in range(0, len(items), size * ranks):  # as often on every rank: a lookup needs all of them
            at = np.arange(start + runtime.rank * size, min(start + (runtime.rank + 1) * size, len(items)))
            batch = encoder.assemble([encoder.no_rows()], padded, items.take(at))
            _, outputs = model(batch.to(runtime.device))
            vectors[torch.from_numpy(at)] = outputs["candidates"].float().cpu()
    return runtime.sum(vectors.to(runtime.device))


class Retriever:
    """All items, and the scores that users give them.

    Attributes:
        items: C of them.
        vectors: ``[C, D]`` float32.
        unknown: ``[C]`` bool, items of which neither id nor text nor a named feature is known, or no number came out.
        overflowed: how many items no number came out of.
    """

    def __init__(self, model: nn.Module, encoder: RowEncoder, runtime: Runtime):
        """Computes the vectors of all items there are; on every rank, the model not in training."""
        self.items = encoder.items(trained=False)
        self.vectors = item_vectors(model, encoder, self.items, runtime)
        fine = usable(self.vectors)
        self.overflowed = int((~fine).sum())
        self.vectors[~fine] = 0
        self.unknown = (self.vectors == 0).all(1)
        self._index = KeyIndex(self.items.keys)
        self._products = Products(self.vectors, self.unknown)

    def scores(self, users: Tensor) -> Tensor:
        """``[B, C]`` for user vectors ``[B, D]``; minus infinity for items that nothing is known of."""
        return self._products.of(users, self._products.of_shared(users))

    def place_of_keys(self, keys: np.ndarray) -> np.ndarray:
        """``[N]`` position among all items of each key; -1 for one that is not among them."""
        return self._index.lookup(keys)

    def past_of(self, batch: Batch, columns: int) -> tuple[Tensor, Tensor]:
        """Row and position among all items of each past item that is one of them; of a batch on the host, with keys."""
        past = batch.past
        assert past is not None
        places = torch.from_numpy(self.place_of_keys(past.keys.numpy().view(np.uint64)).astype(np.int64))
        return (past.at // columns)[places >= 0], places[places >= 0]


def next_item_rows(
    model: nn.Module,
    encoder: RowEncoder,
    files: Mapping[str, EventFiles],
    runtime: Runtime,
) -> list[dict[str, Any]]:
    """Where the item of each row ranks among all items, given the row's past: hit rate, NDCG and MRR, per domain and slice.

    Rows count whose item was chosen, as of `Rows.chosen`. An item that ties with others ranks
    behind them, and one that nothing is known of behind all. Past items are left out of the ranking, unless one of them is the
    next, or ``model.next_item.repeat`` says that they come again. Beside the model's: how items rank by their count in training.

    Args:
        model: with a next-item objective; returned in the mode it came in.
        encoder: of the experiment.
        files: domain -> files.
        runtime: the process group.

    Returns:
        On rank 0 rows with ``domain``, ``slice`` (``all``, ``warm_items``, ``cold_items``), ``rows``, ``items``, ``overflowed``
        (rows whose user came out as no number; they are in no metric), and
        ``hr@K``, ``ndcg@K``, ``mrr@K`` with ``popularity_`` before them too. Elsewhere an empty list.
    """
    objective = encoder.experiment.model.next_item
    assert objective is not None
    was_training = model.training
    model.eval()
    columns: dict[str, list[np.ndarray]] = {}
    retriever = Retriever(model, encoder, runtime)
    popularity = torch.from_numpy(retriever.items.counts)
    for users, batch in user_vectors(model, encoder, files, runtime):
        assert batch.past is not None
        fine = usable(users)
        users = torch.where(fine[:, None], users, 0)
        target = torch.from_numpy(retriever.place_of_keys(batch.host["item_key"]).astype(np.int64))
        row, place = retriever.past_of(batch, encoder.layout.past)
        for start in range(0, batch.rows, step := max(1, CELLS // max(len(retriever.items), 1))):
            part = slice(start, start + step)
            scores = retriever.scores(users[part]).cpu()
            inside = (row >= start) & (row < start + step) & (not objective.repeat)
            gone = row[inside] - start, place[inside]
            kept = {
                "rank": _ranks(scores, target[part], gone),
                "popularity": _ranks(popularity.expand(len(scores), -1).clone(), target[part], gone),
                "chosen": batch.past.chosen[part],
                "domain": batch.domains[part],
                "predicted": fine[part].cpu(),
                "warm": batch.past.item_rows[part] > 0,
            }
            for name, values in kept.items():
                columns.setdefault(name, []).append(values.numpy())
    model.train(was_training)
    everyone = runtime.gather({name: np.concatenate(parts) for name, parts in columns.items()})
    if not runtime.is_main or not any(everyone):
        return []
    merged = {name: np.concatenate([part[name] for part in everyone if part]) for name in next(filter(None, everyone))}
    return _metric_rows(merged, encoder.layout.domains, len(retriever.items))


def user_vectors(
    model: nn.Module, encoder: RowEncoder, files: Mapping[str, EventFiles], runtime: Runtime
) -> Iterator[tuple[Tensor, Batch]]:
    """Vectors ``[B, D]`` of this rank's batches, on the device, and the batches, on the host. The model is not in training."""
    layout, batch_size = encoder.layout, encoder.experiment.training.batch_size
    by_position = {layout.domains.index(name): events for name, events in files.items() if events.rows}
    if not by_position:
        return
    plan = deal(ordered_chunks(by_position), runtime.world_size, batch_size)[runtime.rank]
    reader = Reader(encoder, by_position, padded_rows(batch_size, len(layout.domains)), with_host=True)
    for batch in prefetch(reader.batches(plan), encoder.experiment.training.prefetch_batches):
        with torch.no_grad():
            _, outputs = model(batch.to(runtime.device))
        yield outputs["user"].float(), batch


def _ranks(scores: Tensor, target: Tensor, gone: tuple[Tensor, Tensor]) -> Tensor:
    """``[B]`` int64: how many items score at least as high as the row's own, those that are gone left out; C for none."""
    own = scores.gather(1, target.clamp_min(0)[:, None])
    scores[gone] = NEVER
    ahead = (scores >= own).sum(1)
    # The row's own item has been counted, unless it is one of those that are gone.
    was_gone = scores.gather(1, target.clamp_min(0)[:, None]) == NEVER
    ranks = ahead - (~was_gone[:, 0]).long()
    return torch.where((target >= 0) & (own[:, 0] > NEVER), ranks, scores.shape[1])


def _metric_rows(columns: Mapping[str, np.ndarray], domains: tuple[str, ...], items: int) -> list[dict[str, Any]]:
    out = []
    chosen, predicted = columns["chosen"], columns["predicted"]
    slices = {"all": chosen}
    slices |= {"warm_items": slices["all"] & columns["warm"], "cold_items": slices["all"] & ~columns["warm"]}
    for d, domain in enumerate(domains):
        for name, inside in slices.items():
            if not (inside := inside & (columns["domain"] == d)).any():
                continue
            overflowed = int((inside & ~predicted).sum())
            inside = inside & predicted
            row: dict[str, Any] = {"domain": domain, "slice": name, "rows": int(inside.sum()), "items": items}
            row["overflowed"] = overflowed
            for prefix, ranks in (("", columns["rank"]), ("popularity_", columns["popularity"])):
                row |= {f"{prefix}{metric}": value for metric, value in rank_metrics(ranks[inside]).items()}
            out.append(row)
    return out


def mean_ndcg(rows: list[dict[str, Any]]) -> float | None:
    """One number to choose a checkpoint by: NDCG@10 over all rows of all domains."""
    every = [row for row in rows if row["slice"] == "all" and row["rows"]]
    total = sum(row["rows"] for row in every)
    return sum(row["ndcg@10"] * row["rows"] for row in every) / total if total else None


def rank_metrics(ranks: np.ndarray) -> dict[str, float | None]:
    """Hit rate, NDCG and MRR at each cutoff, of one relevant item per row at ``ranks [N]``, 0 being the first place.

    None for no rows.
    """
    if not len(ranks):
        return {f"{metric}@{cutoff}": None for cutoff in CUTOFFS for metric in ("hr", "ndcg", "mrr")}
    out: dict[str, float | None] = {}
    for cutoff in CUTOFFS:
        hit = ranks < cutoff
        out[f"hr@{cutoff}"] = float(hit.mean())
        out[f"ndcg@{cutoff}"] = float((hit / np.log2(ranks + 2)).mean())
        out[f"mrr@{cutoff}"] = float((hit / (ranks + 1)).mean())
    return out
