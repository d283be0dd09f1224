"""What a training will hold in memory and compute, per rank, reckoned from sizes alone: no table is ever made."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode
from torchrec import KeyedJaggedTensor, KeyedTensor
from torchrec.distributed.planner.types import ShardingOption

from ...data.batch.batch import Batch
from ...data.batch.past_items import Past
from ...data.config.experiment import Experiment
from ...data.config.sections.training import TrainingConfig
from ...data.errors import UserError
from ...data.schema.layout import HISTORY, Layout
from ...model.foundation.foundation import Dense, Foundation
from ...model.layers.precision import chosen_precision
from ..sharding.planner import Ranks, plan_tables, table_sharder

DENSE_PARTS = ("dense part", "lookups", "activations", "batches")
PROCESS = {"cpu": 0.7 * 2**30, "cuda": 1.5 * 2**30}
"""Bytes a rank holds before there is a model: Python with torch, or the CUDA context with NCCL."""
_FLOAT = 4
_SAMPLE = 64  # rows of the small batch that is run, and of one twice as large: what a row takes is the difference
_HELD_BATCHES = 3  # TorchRec's pipeline has one in work, one being sent and one being copied


@dataclass(frozen=True)
class TableShare:
    """What ranks hold of a table.

    Attributes:
        kind: of sharding.
        weights: ``[R]`` bytes.
        states: ``[R]`` bytes of its optimizer.
        ms: ``[R]`` the planner's estimate of its forward, backward and exchange in a step, milliseconds.
        exchange_ms: ``[R]`` of these, what goes between ranks.
    """

    kind: str
    weights: np.ndarray
    states: np.ndarray
    ms: np.ndarray
    exchange_ms: np.ndarray


@dataclass(frozen=True)
class Footprint:
    """A training on some ranks, in numbers.

    Attributes:
        tables: table -> what the ranks hold of it.
        dense: part of `DENSE_PARTS` -> bytes on every rank.
        dense_parameters: how many.
        flops: of the dense part's forward and backward, per rank and step.
        models: trained one after the other; together where they predict.
    """

    tables: dict[str, TableShare]
    dense: dict[str, float]
    dense_parameters: int
    flops: float
    models: int = 1

    @property
    def bytes(self) -> dict[str, np.ndarray]:
        """Part -> ``[R]`` bytes."""
        ranks = len(next(iter(self.tables.values())).weights)
        tables = {
            "tables": np.sum([table.weights for table in self.tables.values()], 0),
            "table optimizer": np.sum([table.states for table in self.tables.values()], 0),
        }
        return tables | {part: np.full(ranks, held) for part, held in self.dense.items()}

    @property
    def total(self) -> np.ndarray:
        """``[R]`` bytes, all parts."""
        return np.sum(list(self.bytes.values()), 0)

    @property
    def predicting_dense(self) -> float:
        """Bytes of the dense part, of activations and of batches where nothing is trained: no gradients, no optimizer."""
        return (
            self.models * self.dense_parameters * _FLOAT
            + self.dense["activations"]
            + self.dense["batches"]
            + self.dense["lookups"]
        )

    @property
    def predicting(self) -> np.ndarray:
        """``[R]`` bytes where nothing is trained, all parts."""
        return self.models * self.bytes["tables"] + self.predicting_dense

    def too_full(self, ranks: Ranks) -> str | None:
        """What is too much for the fullest of these ranks, in words; None if all fits."""
        free, fullest = ranks.bytes - PROCESS[ranks.device], self.total.max()
        if fullest <= free:
            return None
        most = max(self.bytes, key=lambda part: self.bytes[part].max())
        return f"the fullest rank needs {fullest / 2**30:.1f} GiB of {free / 2**30:.1f}, most of it for {most}"


def footprint(layout: Layout, experiment: Experiment, ranks: Ranks) -> Footprint:
    """Plans the tables as training will, and reckons up what each rank holds.

    The dense part is run once on a few random rows, so its activations are counted, not guessed. Lists are taken to be as long as
    the experiment allows.

    Raises:
        UserError: no plan fits, or the items of one step do not.
    """
    training, rows = experiment.training, experiment.training.batch_size
    _check_candidates(layout, experiment, ranks)
    precision = chosen_precision(training.precision, torch.device(ranks.device))
    model = Foundation(layout, experiment.model, rows, precision, training.half_tables)
    plan = plan_tables(model, layout, experiment, ranks, table_sharder(training))
    small, large = (_run(model.dense, layout, experiment, n) for n in (_SAMPLE, 2 * _SAMPLE))

    def of_batch(first: float, second: float) -> float:
        return max(0.0, first + (second - first) * (rows - _SAMPLE) / _SAMPLE)

    saved, flops, batch = (of_batch(a, b) for a, b in zip(small, large, strict=True))
    parameters = sum(p.numel() for p in model.dense.parameters())
    pooled = rows * len(layout.keys) * experiment.model.embedding_dim * _FLOAT
    dense = {
        "dense part": parameters * _FLOAT * (2 + training.optimizer.moments),  # weights, gradients
        # What a rank sends and gets of lookups and of their gradients.
        "lookups": pooled * (2 if ranks.count == 1 else 4),
        "activations": saved,
        "batches": batch * (_HELD_BATCHES + training.prefetch_batches * (ranks.device == "cpu")),
    }
    tables = {option.name: _share(option, training, ranks.count) for option in plan.options}
    return Footprint(tables, dense, parameters, flops, experiment.seeds)


def _check_candidates(layout: Layout, experiment: Experiment, ranks: Ranks) -> None:
    """Raises a UserError where what one step's candidates are made of is more than a rank has: their vectors could not even be tried."""
    next_item, contents = experiment.model.next_item, (*layout.past_contents, *layout.past_vectors)
    if next_item is None:
        return
    candidates = experiment.training.batch_size * layout.candidates
    needed = candidates * layout.ids * experiment.model.embedding_dim * _FLOAT
    # Each item's once, however often it was drawn.
    of_item = sum(layout.vectors[name] for name in contents if name not in layout.codes)
    needed += min(candidates, layout.item_rows) * of_item * _FLOAT
    if needed <= ranks.bytes:
        return
    every = next_item.loss == "softmax"
    field, value = ("loss", next_item.loss) if every else ("negatives", next_item.negatives)
    what = f"is {value}: a step has {candidates:,} candidates, whose lookups and contents take {needed / 2**30:.1f} GiB of a rank's {ranks.bytes / 2**30:.1f}"
    raise UserError(
        f"model.next_item.{field}", what, "Use sampled_softmax or gbce." if every else "Take fewer of them."
    )


def _share(option: ShardingOption, training: TrainingConfig, ranks: int) -> TableShare:
    weights, states, ms, exchange = np.zeros((4, ranks))
    for shard in option.shards:
        rows, columns = shard.size
        state = {"rowwise_adagrad": rows, "adam": 2 * rows * columns, "sgd": 0}[training.sparse_optimizer]
        weights[shard.rank] += rows * columns * training.table_bytes
        states[shard.rank] += state * _FLOAT
        if shard.perf is not None:
            ms[shard.rank] += shard.perf.total
            exchange[shard.rank] += shard.perf.fwd_comms + shard.perf.bwd_comms
    return TableShare(option.sharding_type, weights, states, ms, exchange)


def _run(dense: Dense, layout: Layout, experiment: Experiment, rows: int) -> tuple[float, float, float]:
    """Bytes kept for the backward pass, operations of both passes, and bytes of the batch."""
    batch = _full_batch(layout, experiment, rows)
    width = experiment.model.embedding_dim
    values = torch.randn(rows, len(layout.keys) * width, requires_grad=True)
    keys = [key for table in layout.tables for key in layout.keys if layout.table_of[key] == table]
    pooled = KeyedTensor(keys, [width] * len(keys), values)
    ours = {p.untyped_storage().data_ptr() for p in dense.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in ours:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = dense(pooled, batch)
        loss.backward()
    for parameter in dense.parameters():
        parameter.grad = None
    return float(sum(kept.values())), float(counter.get_total_flops()), float(_bytes(batch))


def _full_batch(layout: Layout, experiment: Experiment, rows: int) -> Batch:
    """Random rows of all domains with nothing missing and every list as long as it may be."""
    longest = {HISTORY: experiment.entities.user.history.max_length} if experiment.entities.user.history else {}
    for name, feature in experiment.features().items():
        longest |= feature.inputs(name).lists
    items = layout.past + layout.candidates
    lengths = [1] * layout.singles + [longest[key] for key in layout.lists] + [1] * items * layout.ids
    for key in layout.past_features:
        lengths += [longest.get(key, 1)] * items
    lengths += [1] * (layout.past + 1) * layout.attention
    of_domain = [len(part) for part in np.array_split(np.arange(rows), len(layout.domains))]
    lookups = rows * sum(lengths)
    return Batch(
        sparse=KeyedJaggedTensor.from_lengths_sync(
            list(layout.keys),
            torch.zeros(lookups, dtype=torch.int64),
            torch.tensor(lengths, dtype=torch.int32).repeat_interleave(rows),
            torch.ones(lookups) if layout.weighted_lists else None,
        ),
        dense=torch.randn(rows, len(layout.dense)),
        vectors={name: _vectors(layout, name, rows) for name in layout.vectors},
        vector_present={name: torch.ones(rows, dtype=torch.bool) for name in layout.vectors},
        id_counts=torch.ones(rows, len(layout.entities)),
        labels=torch.zeros(rows, len(layout.tasks)),
        label_mask=torch.ones(rows, len(layout.tasks), dtype=torch.bool),
        domains=torch.arange(len(of_domain)).repeat_interleave(torch.tensor(of_domain)),
        domain_lengths=of_domain,
        past=_full_past(layout, rows) if layout.past else None,
        weights=torch.ones(rows, len(layout.tasks)) if layout.weighted else None,
    )


def _vectors(layout: Layout, name: str, rows: int) -> Tensor:
    """As a store has them where they come from one, else as a column."""
    if name in layout.codes:
        return torch.zeros(rows, layout.vectors[name], dtype=torch.int16)
    values = torch.randn(rows, layout.vectors[name])
    return values.half() if name in layout.encoder_of else values


def _full_past(layout: Layout, rows: int) -> Past:
    """As many past items as rows can have, all with contents of their own."""
    items, candidates = rows * layout.past, rows * layout.candidates
    names = (*layout.past_contents, *layout.past_vectors)
    ones = torch.ones(items + candidates)
    return Past(
        rows=torch.ones(items, dtype=torch.int64),
        at=torch.arange(items),
        lengths=torch.full((rows,), layout.past),
        counts=ones[:items],
        item_rows=torch.ones(rows, dtype=torch.int64),
        chosen=torch.ones(rows, dtype=torch.bool),
        candidates=torch.ones(candidates, dtype=torch.int64),
        candidate_counts=ones[items:],
        keys=torch.zeros(0, dtype=torch.int64),
        ages=torch.zeros(items, dtype=torch.int64),
        domains=torch.zeros(items, dtype=torch.int64),
        dense=torch.randn(items + candidates, len(layout.past_dense)),
        described=torch.ones(items + candidates, dtype=torch.bool),
        vectors={name: _vectors(layout, name, items + candidates) for name in names},
        vector_at={name: torch.arange(items + candidates) for name in names},
        longest=layout.past,
        trained_items=candidates,
        trained_events=candidates,
    )


def _bytes(batch: Batch) -> int:
    tensors = [batch.sparse.values(), batch.sparse.lengths(), batch.dense, batch.id_counts, batch.labels]
    tensors += [batch.label_mask, batch.domains, *batch.vectors.values(), *batch.vector_present.values()]
    tensors += batch.past.tensors() if batch.past is not None else []
    given = (batch.weights, batch.sparse.weights_or_none())
    tensors += [tensor for tensor in given if tensor is not None]
    return sum(tensor.nbytes for tensor in tensors)
