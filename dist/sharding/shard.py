"""From an unsharded model to DistributedModelParallel."""

import logging
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection
from torchrec.distributed.model_parallel import get_default_sharders

from ...data.config.experiment import Experiment
from ...data.machine.limits import memory
from ...data.schema.layout import Layout
from ...model.foundation.foundation import Foundation, dense_part
from ...model.foundation.one_graph import OneGraph
from ...model.layers.fast import fast_on_gpu
from ...model.representation.embedding_tables import initialise_table
from ..logs.records import warning
from ..ranks.environment import of_machine
from ..ranks.runtime import Runtime
from .cpu_tables import use_own_kernels
from .planner import REPLICATED, Ranks, bytes_of_tables, plan_of_kinds, plan_tables, table_sharder


def shard(
    layout: Layout, experiment: Experiment, runtime: Runtime, learning: Mapping[str, Tensor] = MappingProxyType({})
) -> DistributedModelParallel:
    """Builds the model, plans its tables over the ranks, and gives every parameter its initial value.

    The values depend on ``experiment.seed`` alone, not on the plan or the number of ranks.

    Args:
        layout: of the batches.
        experiment: the experiment.
        runtime: the process group.
        learning: what learns of parameters in frozen levels, as of `freezing.learning_parts`.

    Raises:
        UserError: the tables do not fit the ranks' memory.
    """
    _prepare_kernels(runtime)
    torch.manual_seed(experiment.seed)
    model = foundation(layout, experiment)
    for name, parameter in model.dense.named_parameters(prefix="dense"):
        parameter.requires_grad_(name not in learning or bool(learning[name].any()))
    sharder = table_sharder(experiment.training)
    plan = runtime.on_main(lambda: plan_tables(model, layout, experiment, ranks_of(runtime), sharder).sharding)
    model.dense.to(runtime.device)
    sharded = DistributedModelParallel(
        model,
        device=runtime.device,
        plan=plan,
        sharders=[sharder, *get_default_sharders()[1:]],
        init_data_parallel=runtime.world_size > 1,
    )
    _initialise(sharded, experiment)
    return sharded


def compile_dense(sharded: DistributedModelParallel, experiment: Experiment, runtime: Runtime) -> None:
    """Has the dense part of a model that is to be trained computed as one graph, where the experiment asks for it and layers have their
    form for GPUs.
    """
    if not experiment.training.compile:
        return
    dense = dense_part(sharded)
    if fast_on_gpu(dense.domain_embedding):
        dense.in_training = OneGraph(dense, runtime.device)
    elif runtime.is_main:
        warning(
            "training.compile: compiles the form that layers have on GPUs, which they do not take here; the training goes on without"
        )


def replicate(
    layout: Layout, experiment: Experiment, runtime: Runtime, models: int = 1
) -> DistributedModelParallel | None:
    """The model with all tables on every rank, for predicting without a word between ranks; None if that is too much.

    Its tables hold nothing yet: load a checkpoint. Those of so many such ``models`` may take half the memory that a rank has
    for itself.
    """
    if bytes_of_tables(layout, experiment) * models * 2 > runtime.on_main(lambda: ranks_of(runtime).bytes):
        return None
    _prepare_kernels(runtime)
    model = foundation(layout, experiment)
    sharder = table_sharder(experiment.training)
    model.dense.to(runtime.device)
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # TorchRec warns that a table which is on every rank is not sharded
    plan = plan_of_kinds(model, layout, experiment, ranks_of(runtime), sharder, [REPLICATED])
    logger.setLevel(level)
    if plan is None:
        return None
    sharded = DistributedModelParallel(
        model,
        device=runtime.device,
        plan=plan.sharding,
        sharders=[sharder, *get_default_sharders()[1:]],
        init_data_parallel=False,
    )
    for module in sharded.modules():
        if isinstance(module, ShardedEmbeddingBagCollection):
            # Around them is a DistributedDataParallel, which copies all they give, for gradients that nobody wants.
            module._lookups[:] = [
                lookup.module if isinstance(lookup, DistributedDataParallel) else lookup for lookup in module._lookups
            ]
    return sharded


def foundation(layout: Layout, experiment: Experiment) -> Foundation:
    """The model of an experiment, unsharded, its tables without memory yet."""
    training = experiment.training
    return Foundation(layout, experiment.model, training.batch_size, training.precision, training.half_tables)


def _prepare_kernels(runtime: Runtime) -> None:
    why_not = use_own_kernels() if runtime.device.type == "cpu" else None
    if why_not and runtime.is_main:
        warning(
            f"tables are looked up and updated by FBGEMM's kernels, which may take four times as long on a CPU: {why_not}"
        )


def ranks_of(runtime: Runtime) -> Ranks:
    """The ranks of this job, and what each has for itself."""
    local = of_machine()[1]
    device_bytes = None
    if runtime.device.type == "cuda":
        device_bytes = torch.cuda.get_device_properties(runtime.device).total_memory
    host_bytes = memory() // local
    return Ranks(runtime.device.type, runtime.world_size, local, host_bytes, device_bytes)


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
