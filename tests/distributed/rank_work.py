"""What ranks do in several tests: set up training as `foundrank.dist.train.train` does, take steps, hand back weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from foundrank.data.batch.batch import Batch
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.experiment import Experiment
from foundrank.data.counting.counting_pass import count
from foundrank.data.epoch.order import deal, epoch_chunks
from foundrank.data.epoch.reader import Reader
from foundrank.data.events.check_events import check_events
from foundrank.data.schema.sizes import padded_rows
from foundrank.data.storage.file_systems import Location
from foundrank.dist.evaluate.evaluate import evaluate_run
from foundrank.dist.evaluate.prepare import prepare_evaluation
from foundrank.dist.fine_tuning.begin import begin_with_conditioning
from foundrank.dist.ranks.preemption import Preemption
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.retrieval.candidates import allowed_items, train_within_domains
from foundrank.dist.retrieval.protocol import Protocol
from foundrank.dist.retrieval.retrieval import draw_candidates
from foundrank.dist.score.recommend import recommend
from foundrank.dist.score.recommend_input import RecommendJob, plan_recommendations
from foundrank.dist.score.score import score
from foundrank.dist.score.scoring_input import ScoringJob
from foundrank.dist.score.work_list import plan_parts
from foundrank.dist.sharding.shard import compile_dense, shard
from foundrank.dist.train.optimizer import Optimizer
from foundrank.dist.train.prepare import prepare
from foundrank.dist.train.train import train
from foundrank.model.foundation.outputs import Outputs

Piece = tuple[tuple[int, ...], np.ndarray]
"""Offset in the whole tensor, and values."""


def make_encoder(experiment: Experiment) -> RowEncoder:
    events = check_events(experiment)
    return RowEncoder(experiment, count(experiment, {name: splits["train"] for name, splits in events.items()}))


def batches_of(encoder: RowEncoder, rank: int, world_size: int) -> Iterator[Batch]:
    """A rank's batches of the first epoch."""
    experiment, layout = encoder.experiment, encoder.layout
    events = check_events(experiment)
    files = {layout.domains.index(name): splits["train"] for name, splits in events.items()}
    weights = {d: experiment.domains[layout.domains[d]].sampling_weight for d in files}
    lists = {layout.domains.index(name): of_domain for name, of_domain in encoder.statistics.lists.items()}
    chunks = epoch_chunks(files, weights, experiment.seed, 0, experiment.training.shuffle_rows, lists)
    plan = deal(chunks, world_size, experiment.training.batch_size)[rank]
    longest = [of_domain.longest for of_domain in lists.values()]
    train = {layout.domains[d]: of_domain for d, of_domain in files.items()}
    alone = Runtime(0, 1, torch.device("cpu"))
    if (allowed := allowed_items(Protocol(), encoder, train, alone)) is not None:
        train_within_domains(encoder, allowed)
    reader = Reader(encoder, files, padded_rows(experiment.training.batch_size, len(layout.domains), longest))
    return reader.batches(plan, draw=draw_candidates(encoder, rank)(0))


@dataclass
class Trained:
    """What a rank has to show after its steps."""

    losses: list[float]
    logits: list[np.ndarray]
    tables: dict[str, list[Piece]]
    sparse_state: dict[str, list[Piece]]
    dense: dict[str, np.ndarray]


def train_run(runtime: Runtime, experiment: Experiment, run: Location) -> None:
    """A whole training, as the command does it."""
    with Preemption(runtime) as preemption:
        train(runtime.on_main(lambda: prepare(experiment, run)), runtime, preemption)


def train_steps(runtime: Runtime, experiment: Experiment, steps: int) -> Trained:
    """Trains for some steps with the real pipeline and optimizer."""
    encoder = make_encoder(experiment)
    sharded = shard(encoder.layout, experiment, runtime)
    compile_dense(sharded, experiment, runtime)
    begin_with_conditioning(sharded, encoder, runtime)
    optimizer = Optimizer(sharded, experiment.training)
    losses, logits = [], []

    def note(_module: Any, _given: Any, result: tuple[torch.Tensor, Outputs]) -> None:
        losses.append(result[0].item())
        logits.append(result[1].logits.numpy().copy())

    sharded.register_forward_hook(note)
    pipeline = TrainPipelineSparseDist(sharded, optimizer, runtime.device, execute_all_batches=True)  # type: ignore[arg-type]
    batches = batches_of(encoder, runtime.rank, runtime.world_size)
    for step in range(steps):
        optimizer.set_progress(step / steps)
        pipeline.progress(batches)
    pipeline.detach()
    return Trained(losses, logits, tables_of(sharded), sparse_state_of(sharded), dense_of(sharded))


def tables_of(sharded: DistributedModelParallel) -> dict[str, list[Piece]]:
    """Table -> the pieces this rank holds."""
    state = sharded.state_dict()
    return {
        name.split("embedding_bags.")[1].removesuffix(".weight"): pieces(value)
        for name, value in state.items()
        if "embedding_bags." in name
    }


def sparse_state_of(sharded: DistributedModelParallel) -> dict[str, list[Piece]]:
    """``table.momentum1`` and the like -> the pieces this rank holds."""
    of_parameter = sharded.fused_optimizer.state_dict()["state"].values()
    return {key: pieces(value) for state in of_parameter for key, value in state.items()}


def dense_of(sharded: DistributedModelParallel) -> dict[str, np.ndarray]:
    """Every other parameter, and what contents go through."""
    state = sharded.state_dict()
    return {name: value.numpy().copy() for name, value in state.items() if "embedding_bags." not in name}


def pieces(value: Any) -> list[Piece]:
    if isinstance(value, DTensor):
        local: Any = value.to_local()
        return [(tuple(o), t.numpy().copy()) for o, t in zip(local.local_offsets(), local.local_shards(), strict=True)]
    if hasattr(value, "local_shards"):
        return [(tuple(s.metadata.shard_offsets), s.tensor.numpy().copy()) for s in value.local_shards()]
    return [((0,) * value.dim(), value.numpy().copy())]


def whole(parts: list[dict[str, list[Piece]]]) -> dict[str, np.ndarray]:
    """The ranks' pieces put together, each cell covered at least once."""
    out = {}
    for name in sorted({name for part in parts for name in part}):
        held = [piece for part in parts for piece in part.get(name, [])]
        size = np.max([np.add(offset, values.shape) for offset, values in held], axis=0)
        out[name] = np.full(size, np.nan, np.float32)
        for offset, values in held:
            out[name][tuple(slice(o, o + n) for o, n in zip(offset, values.shape, strict=True))] = values
        assert not np.isnan(out[name]).any(), name
    return out


def evaluate_test(run: Path, runtime: Runtime) -> dict[str, Any]:
    """Evaluates a run on its test split."""
    return evaluate_run(runtime.on_main(lambda: prepare_evaluation(run, "test")), runtime)


def run_scoring(job: ScoringJob, runtime: Runtime) -> dict[str, Any]:
    """Plans a scoring job and does it; its summary."""
    return score(job, runtime.on_main(lambda: plan_parts(job, claims=True)), runtime)


def run_recommending(job: RecommendJob, runtime: Runtime) -> tuple[dict[str, Any], float | None, int, int]:
    """Plans a job of recommendations and does it."""
    return recommend(job, runtime.on_main(lambda: plan_recommendations(job, claims=True)), runtime)
