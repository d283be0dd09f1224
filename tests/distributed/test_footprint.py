"""What `foundrank plan` reckons a rank will hold is what ranks that train do hold."""

from bisect import bisect_left

import pytest
from torch.profiler import ProfilerActivity, profile, record_function
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from foundrank.data.config.experiment import Experiment
from foundrank.dist.capacity.footprint import footprint
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.sharding.shard import ranks_of, shard
from foundrank.dist.train.optimizer import Optimizer

from .harness import run_ranks
from .rank_work import batches_of, make_encoder

RANKS, STEPS, STEP = 2, 6, "a training step"


def reckoned_and_held(runtime: Runtime, experiment: Experiment) -> tuple[float, float, float, float]:
    """Bytes of this rank: reckoned without batches, most allocated by torch; reckoned for tables, held in them and their optimizer."""
    encoder = make_encoder(experiment)
    expected = footprint(encoder.layout, experiment, ranks_of(runtime))
    batches = iter(list(batches_of(encoder, runtime.rank, runtime.world_size)))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        sharded = shard(encoder.layout, experiment, runtime)
        optimizer = Optimizer(sharded, experiment.training)
        pipeline = TrainPipelineSparseDist(sharded, optimizer, runtime.device, execute_all_batches=True)  # type: ignore[arg-type]
        for step in range(STEPS):
            optimizer.set_progress(step / STEPS)
            with record_function(STEP):
                pipeline.progress(batches)
    weights = sum(
        part.tensor.nbytes
        for name, value in sharded.state_dict().items()
        if "embedding_bags." in name
        for part in value.local_shards()
    )
    states = 0
    for of_parameter in sharded.fused_optimizer.state_dict()["state"].values():
        for value in of_parameter.values():
            parts = value.to_local().local_shards() if hasattr(value, "to_local") else value.local_shards()
            states += sum((part.tensor if hasattr(part, "tensor") else part).nbytes for part in parts)
    tables = expected.bytes["tables"] + expected.bytes["table optimizer"]
    # The reader's batches lie in NumPy's memory, which torch does not count.
    reckoned = expected.total - expected.bytes["batches"]
    return reckoned[runtime.rank], peak(profiled), tables[runtime.rank], weights + states


def peak(profiled: profile) -> int:
    """The most bytes that were allocated at a time in a step, the least of the steps after the first; making tables takes more.

    Not the most of all: where one rank is late, the other holds for a moment what it cannot send yet.
    """
    events = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]
    starts = sorted(e.start_ns() for e in events if e.name() == STEP)
    held, most = 0, [0] * (len(starts) + 1)
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        step = bisect_left(starts, event.start_ns())
        most[step] = max(most[step], held)
    return min(most[2:])


@pytest.mark.parametrize("sharding", ["table_wise", "column_wise", "row_wise"])
def test_bytes_per_rank_are_those_of_a_real_training(small, sharding: str):
    experiment = small(
        f"training.sharding={sharding}",
        "model.embedding_dim=32",
        "model.width=64",
        "model.domain_width=128",
        "model.expert_widths=[128, 64]",
        "training.batch_size=512",
        "entities.item.encoding=hash",
        "entities.item.buckets=100_000",
        "entities.user.encoding=hash",
        "entities.user.buckets=100_000",
    )
    for reckoned, held, tables, tables_held in run_ranks(reckoned_and_held, RANKS, experiment):
        assert tables == tables_held
        assert reckoned == pytest.approx(held, rel=0.1)
