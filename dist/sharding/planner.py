"""Who holds which part of which table: TorchRec's planner, for ranks that are here or for ranks of a cluster that is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_training import WeightDecayMode
from torch import nn
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology
from torchrec.distributed.planner.enumerators import EmbeddingEnumerator
from torchrec.distributed.planner.shard_estimators import EmbeddingPerfEstimator
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import (
    HardwareConfig,
    KernelConfig,
    PlannerError,
    ShardingOption,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.types import ModuleSharder, ShardingPlan, ShardingType

from ...data.config.experiment import Experiment
from ...data.config.sections.training import TrainingConfig
from ...data.errors import UserError
from ...data.schema.layout import Layout

RESERVED_SHARE = 0.25
"""Of each device's memory, what the planner keeps for the dense part, activations and batches."""

_OPTIMIZERS = {
    "rowwise_adagrad": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
    "adam": EmbOptimType.ADAM,
    "sgd": EmbOptimType.EXACT_SGD,
}
_SHARDING = (ShardingType.TABLE_WISE.value, ShardingType.COLUMN_WISE.value, ShardingType.ROW_WISE.value)
_BETWEEN_HOSTS = (
    ShardingType.TABLE_ROW_WISE.value,
    ShardingType.TABLE_COLUMN_WISE.value,
    ShardingType.GRID_SHARD.value,
)
_BY_ROW = (ShardingType.ROW_WISE.value, ShardingType.TABLE_ROW_WISE.value, ShardingType.GRID_SHARD.value)
REPLICATED = ShardingType.DATA_PARALLEL.value
_EVERY = (*_SHARDING, *_BETWEEN_HOSTS, REPLICATED)
"""Every table on every rank: for predicting only. A replicated table has no fused optimizer, so training would not move it."""


@dataclass(frozen=True)
class Ranks:
    """R ranks, and what each has.

    Attributes:
        device: ``cpu`` or ``cuda``.
        count: R.
        per_host: on one host.
        host_bytes: memory of the host, for each rank.
        device_bytes: memory of its GPU; None on CPUs.
        bandwidths: TorchRec's names of bandwidths -> bytes per millisecond, for estimates; what is absent is TorchRec's own guess.
    """

    device: str
    count: int
    per_host: int
    host_bytes: int
    device_bytes: int | None = None
    bandwidths: Mapping[str, float] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Memory that tables may lie in, for each rank."""
        return self.host_bytes if self.device_bytes is None else self.device_bytes


@dataclass(frozen=True)
class TablePlan:
    """A plan of the tables.

    Attributes:
        sharding: what DistributedModelParallel takes.
        options: the same, with the planner's estimates for every shard.
    """

    sharding: ShardingPlan
    options: Sequence[ShardingOption]


class TableSharder(EmbeddingBagCollectionSharder):
    """TorchRec offers no row-wise sharding on CPU of its own accord, though it works there."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        return list(_EVERY) if compute_device_type == "cpu" else super().sharding_types(compute_device_type)


class _InOrder(EmbeddingEnumerator):
    """TorchRec takes kinds of sharding out of a set of strings, so which of two that it thinks equal comes first, and is chosen,
    would change from process to process with Python's hashes."""

    def _filter_sharding_types(self, name: str, allowed_sharding_types: list[str], sharder_key: str = "") -> list[str]:
        return sorted(super()._filter_sharding_types(name, allowed_sharding_types, sharder_key), key=_EVERY.index)


def table_sharder(training: TrainingConfig) -> TableSharder:
    """The sharder of tables that are trained like this, their optimizer fused into the backward pass."""
    decay = training.table_decay
    return TableSharder(
        fused_params={
            "optimizer": _OPTIMIZERS[training.sparse_optimizer],
            "learning_rate": training.sparse_learning_rate,
            "eps": 1e-8,
            **({"weight_decay": decay, "weight_decay_mode": WeightDecayMode.DECOUPLE} if decay else {}),
        }
    )


def bytes_of_tables(layout: Layout, experiment: Experiment) -> int:
    """What all tables of a model take together, once each."""
    return sum(layout.tables.values()) * experiment.model.embedding_dim * experiment.training.table_bytes


def plan_tables(
    model: nn.Module, layout: Layout, experiment: Experiment, ranks: Ranks, sharder: ModuleSharder
) -> TablePlan:
    """The plan of the tables for some ranks, as ``training.sharding`` asks for it. Only sizes are looked at.

    Raises:
        UserError: no plan fits, or the experiment asks for a kind of sharding the tables are too small for.
    """
    kind = experiment.training.sharding
    # Between processes on CPUs, a whole table on one rank moves the least data; the planner knows GPUs' networks only. Where
    # there is one rank it may choose to sort ids by the rank that has them.
    whole = kind == "auto" and (ranks.device == "cpu" or ranks.count == 1) and len(layout.tables) >= ranks.count
    if whole and (plan := plan_of_kinds(model, layout, experiment, ranks, sharder, [ShardingType.TABLE_WISE.value])):
        return plan
    plan = plan_of_kinds(model, layout, experiment, ranks, sharder, None if kind == "auto" else [kind])
    if plan is None:
        rows, size = sum(layout.tables.values()), bytes_of_tables(layout, experiment) / 2**30
        raise UserError(
            "the sharding plan",
            f"{len(layout.tables)} tables with {rows:,} rows ({size:.1f} GiB) do not fit {ranks.count} rank(s) "
            f"of {ranks.bytes / 2**30:.1f} GiB with sharding: {kind}",
            "Use more ranks, sharding: row_wise or auto, a smaller embedding_dim, a higher min_count, or hash with fewer buckets; "
            "`foundrank plan` says how many ranks it takes.",
        )
    return plan


def plan_of_kinds(
    model: nn.Module,
    layout: Layout,
    experiment: Experiment,
    ranks: Ranks,
    sharder: ModuleSharder,
    kinds: list[str] | None,
) -> TablePlan | None:
    """The planner's choice among some kinds of sharding (None: all), or None if there is none that fits."""
    every = kinds or [*_SHARDING, *(() if ranks.device == "cpu" else _BETWEEN_HOSTS)]
    constraints = {
        table: ParameterConstraints(
            # A rank without a row of a table cannot look anything up in its part.
            sharding_types=[kind for kind in every if kind not in _BY_ROW or layout.tables[table] >= ranks.count]
            or [ShardingType.TABLE_WISE.value],
            # Not the kernels that keep a table in the host's memory: a table that does not fit the devices is to be told.
            compute_kernels=["dense" if kinds == [REPLICATED] else "fused"],
            min_partition=experiment.model.embedding_dim // 2 if kinds == [ShardingType.COLUMN_WISE.value] else None,
            pooling_factors=[1.0] * sum(of == table for of in layout.table_of.values()),
        )
        for table in layout.tables
    }
    # By TorchRec's own bandwidths, as in a training, which knows no others: what is planned is what will be trained.
    topology, batch_size = _topology(ranks), experiment.training.batch_size
    enumerator = _InOrder(topology, batch_size, constraints)
    planner = EmbeddingShardingPlanner(
        topology=topology,
        batch_size=batch_size,
        enumerator=enumerator,
        constraints=constraints,
        storage_reservation=FixedPercentageStorageReservation(RESERVED_SHARE),
    )
    try:
        sharding = planner.plan(model, [sharder])
    except PlannerError:
        return None
    options = planner._best_plan or []
    if ranks.bandwidths:
        EmbeddingPerfEstimator(_topology(ranks, ranks.bandwidths), constraints).estimate(
            options, enumerator._sharder_data_map
        )
    return TablePlan(sharding, options)


def _topology(ranks: Ranks, bandwidths: Mapping[str, float] = MappingProxyType({})) -> Topology:
    return TopologyFactory.create_topology(
        TrainerConfig(world_size=ranks.count, local_world_size=ranks.per_host),
        HardwareConfig(hbm_cap_bytes=ranks.device_bytes, ddr_cap_bytes=ranks.host_bytes, **bandwidths),
        KernelConfig(compute_device=ranks.device, use_hardware_based_bandwidth=bool(bandwidths)),
    )
