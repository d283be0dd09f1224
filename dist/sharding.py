"""From an unsharded model to DistributedModelParallel: who holds which part of which table."""

import logging
import os

import psutil
import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from torch import nn
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.model_parallel import get_default_sharders
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import (
    HardwareConfig,
    KernelConfig,
    PlannerError,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.types import ModuleSharder, ShardingPlan, ShardingType

from ..data.errors import UserError
from ..data.experiment import Experiment
from ..data.layout import Layout
from ..data.settings import TrainingConfig
from ..model.embeddings import initialise_table
from ..model.foundation import Foundation
from ..model.levels import level_of
from .runtime import Runtime

_OPTIMIZERS = {
    "rowwise_adagrad": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
    "adam": EmbOptimType.ADAM,
    "sgd": EmbOptimType.EXACT_SGD,
}
_SHARDING = (ShardingType.TABLE_WISE.value, ShardingType.COLUMN_WISE.value, ShardingType.ROW_WISE.value)
_RESERVED_SHARE = 0.25  # of each device, kept for the dense part, activations and batches


class _Sharder(EmbeddingBagCollectionSharder):
    """TorchRec offers no row-wise sharding on CPU of its own accord, though it works there."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        every = [*_SHARDING, ShardingType.DATA_PARALLEL.value]
        return every if compute_device_type == "cpu" else super().sharding_types(compute_device_type)


def shard(layout: Layout, experiment: Experiment, runtime: Runtime) -> DistributedModelParallel:
    """Builds the model, plans its tables over the ranks, and gives every parameter its initial value.

    The values depend on ``experiment.seed`` alone, not on the plan or the number of ranks.

    Raises:
        UserError: the tables do not fit the ranks' memory.
    """
    torch.manual_seed(experiment.seed)
    model = Foundation(layout, experiment.model, experiment.training.batch_size, experiment.training.precision)
    for name, parameter in model.dense.named_parameters(prefix="dense"):
        parameter.requires_grad_(level_of(name) not in experiment.training.freeze)
    sharder = _Sharder(fused_params=_fused_params(experiment.training))
    plan = runtime.on_main(lambda: make_plan(model, layout, experiment, runtime, sharder))
    sharded = DistributedModelParallel(
        model, device=runtime.device, plan=plan, sharders=[sharder, *get_default_sharders()[1:]]
    )
    _initialise(sharded, experiment)
    return sharded


def replicate(layout: Layout, experiment: Experiment, runtime: Runtime) -> DistributedModelParallel | None:
    """The model with all tables on every rank, for predicting without a word between ranks; None if that is too much.

    Its tables hold nothing yet: load a checkpoint. They may take half the memory that a rank has for itself.
    """
    size = sum(layout.tables.values()) * experiment.model.embedding_dim * 4
    if size * 2 > runtime.on_main(lambda: _memory(runtime)):
        return None
    model = Foundation(layout, experiment.model, experiment.training.batch_size, experiment.training.precision)
    sharder = _Sharder(fused_params=_fused_params(experiment.training))
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # TorchRec warns that a table which is on every rank is not sharded
    plan = _plan(model, layout, experiment, runtime, sharder, [ShardingType.DATA_PARALLEL.value])
    logger.setLevel(level)
    if plan is None:
        return None
    return DistributedModelParallel(
        model,
        device=runtime.device,
        plan=plan,
        sharders=[sharder, *get_default_sharders()[1:]],
        init_data_parallel=False,
    )


def make_plan(
    model: nn.Module, layout: Layout, experiment: Experiment, runtime: Runtime, sharder: ModuleSharder
) -> ShardingPlan:
    """The sharding plan; made on one rank for all.

    Raises:
        UserError: no plan fits, or the experiment asks for a kind of sharding the tables are too small for.
    """
    kind = experiment.training.sharding
    # Between processes on CPUs, a whole table on one rank moves the least data; the planner knows GPUs' networks only.
    whole = kind == "auto" and runtime.device.type == "cpu" and len(layout.tables) >= runtime.world_size
    if whole and (plan := _plan(model, layout, experiment, runtime, sharder, [ShardingType.TABLE_WISE.value])):
        return plan
    plan = _plan(model, layout, experiment, runtime, sharder, None if kind == "auto" else [kind])
    if plan is None:
        rows = sum(layout.tables.values())
        size = rows * experiment.model.embedding_dim * 4 / 2**30
        raise UserError(
            "the sharding plan",
            f"{len(layout.tables)} tables with {rows:,} rows ({size:.1f} GiB) do not fit {runtime.world_size} rank(s) with sharding: {kind}",
            "Use more ranks, sharding: row_wise or auto, a smaller embedding_dim, a higher min_count, or hash with fewer buckets.",
        )
    return plan


def _plan(
    model: nn.Module,
    layout: Layout,
    experiment: Experiment,
    runtime: Runtime,
    sharder: ModuleSharder,
    kinds: list[str] | None,
) -> ShardingPlan | None:
    """The planner's choice among some kinds of sharding, or None if there is none that fits."""
    device = runtime.device.type
    constraints = {
        table: ParameterConstraints(
            sharding_types=kinds or (list(_SHARDING) if device == "cpu" else None),
            compute_kernels=["dense" if kinds == [ShardingType.DATA_PARALLEL.value] else "fused"]
            if device == "cpu"
            else None,
            min_partition=experiment.model.embedding_dim // 2 if kinds == [ShardingType.COLUMN_WISE.value] else None,
            pooling_factors=[1.0] * sum(of == table for of in layout.table_of.values()),
        )
        for table in layout.tables
    }
    planner = EmbeddingShardingPlanner(
        topology=_topology(runtime),
        batch_size=experiment.training.batch_size,
        constraints=constraints,
        storage_reservation=FixedPercentageStorageReservation(_RESERVED_SHARE),
    )
    try:
        return planner.plan(model, [sharder])
    except PlannerError:
        return None


def _memory(runtime: Runtime) -> int:
    """Bytes a rank's device has for it."""
    if runtime.device.type == "cuda":
        return torch.cuda.get_device_properties(runtime.device).total_memory
    return psutil.virtual_memory().total // _local_ranks()


def _local_ranks() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def _topology(runtime: Runtime) -> Topology:
    hbm = _memory(runtime) if runtime.device.type == "cuda" else None
    return TopologyFactory.create_topology(
        TrainerConfig(world_size=runtime.world_size, local_world_size=_local_ranks()),
        HardwareConfig(hbm_cap_bytes=hbm, ddr_cap_bytes=psutil.virtual_memory().total // _local_ranks()),
        KernelConfig(compute_device=runtime.device.type),
    )


def _fused_params(training: TrainingConfig) -> dict:
    return {
        "optimizer": _OPTIMIZERS[training.sparse_optimizer],
        "learning_rate": training.sparse_learning_rate,
        "eps": 1e-8,
    }


def _initialise(sharded: DistributedModelParallel, experiment: Experiment) -> None:
    for name, value in sharded.state_dict().items():
        if "embedding_bags." not in name:
            continue
        table = name.split("embedding_bags.")[1].removesuffix(".weight")
        shards = value.local_shards() if hasattr(value, "local_shards") else None
        if shards is None:
            initialise_table(value, table, experiment.seed, experiment.model.embedding_dim)
            continue
        for part in shards:
            row, column = part.metadata.shard_offsets
            initialise_table(part.tensor, table, experiment.seed, experiment.model.embedding_dim, row, column)
