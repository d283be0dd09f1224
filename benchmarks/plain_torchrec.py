"""The yardstick: a plain TorchRec training loop on the standard workload, over batches held in memory.

    torchrun --nproc_per_node 2 -m benchmarks.plain_torchrec --source FOLDER --steps 40

Written the way TorchRec's public golden-training example is: tables on the meta device, row-wise Adagrad fused into
their backward by FBGEMM, the default planner, DistributedModelParallel, TrainPipelineSparseDist; Adam on the dense part,
float32. FOLDER is what the workload generator writes. Rank 0 prints its figures as one line of JSON.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as torch_dist
import typer
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor, PoolingType
from torchrec.distributed import DistributedModelParallel, TrainPipelineSparseDist
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import HardwareConfig, KernelConfig, TopologyFactory, TrainerConfig
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad
from torchrec.streamable import Pipelineable

WIDTH, EXPERTS, EXPERT_WIDTHS, TOWER_WIDTHS = 16, 3, (256, 128), (128, 64)
LISTS, VECTOR, LABELS = ("seq_item", "seq_shop"), "text_emb", ("click", "conversion")


class PlainBatch(Pipelineable):
    """Bags, dense columns and labels."""

    def __init__(self, sparse: KeyedJaggedTensor, dense: Tensor, labels: Tensor):
        self.sparse, self.dense, self.labels = sparse, dense, labels

    def to(self, device: torch.device, non_blocking: bool = False) -> "PlainBatch":
        return PlainBatch(*(x.to(device, non_blocking=non_blocking) for x in (self.sparse, self.dense, self.labels)))

    def record_stream(self, stream: torch.Stream) -> None:
        for x in (self.sparse, self.dense, self.labels):
            x.record_stream(stream)  # type: ignore[arg-type]

    def pin_memory(self) -> "PlainBatch":
        return PlainBatch(*(x.pin_memory() for x in (self.sparse, self.dense, self.labels)))


class PlainMMoE(nn.Module):
    """Multi-gate mixture of experts (Ma et al., 2018) over one concatenated input; a module per expert, gate and tower."""

    def __init__(self, cardinalities: dict[str, int], dense: int):
        super().__init__()
        self.embeddings = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=f"t_{key}",
                    num_embeddings=rows,
                    embedding_dim=WIDTH,
                    feature_names=[key],
                    pooling=PoolingType.MEAN,
                )
                for key, rows in cardinalities.items()
            ],
            device=torch.device("meta"),
        )
        size = WIDTH * len(cardinalities) + dense
        self.experts = nn.ModuleList(_layers(size, EXPERT_WIDTHS) for _ in range(EXPERTS))
        self.gates = nn.ModuleList(nn.Linear(size, EXPERTS) for _ in LABELS)
        self.towers = nn.ModuleList(
            nn.Sequential(_layers(EXPERT_WIDTHS[-1], TOWER_WIDTHS), nn.Linear(TOWER_WIDTHS[-1], 1)) for _ in LABELS
        )
        self.loss = nn.BCEWithLogitsLoss()

    def forward(self, batch: PlainBatch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x = torch.cat([self.embeddings(batch.sparse).values(), batch.dense], 1)
        experts = torch.stack([expert(x) for expert in self.experts], 1)
        logits = []
        for gate, tower in zip(self.gates, self.towers, strict=True):
            mixed = (gate(x).softmax(1).unsqueeze(2) * experts).sum(1)
            logits.append(tower(mixed))
        logits = torch.cat(logits, 1)
        loss = self.loss(logits, batch.labels)
        return loss, (loss.detach(), logits.detach())


def _layers(size: int, widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(size, width), nn.ReLU()]
        size = width
    return nn.Sequential(*layers)


def shard_plain(
    cardinalities: dict[str, int], dense: int, batch_size: int, device: torch.device
) -> tuple[nn.Module, CombinedOptimizer]:
    """The sharded model and its optimizers, as the golden-training example makes them."""
    torch.manual_seed(2026)
    model = PlainMMoE(cardinalities, dense)
    apply_optimizer_in_backward(RowWiseAdagrad, model.embeddings.parameters(), {"lr": 0.02, "eps": 1e-8})
    ranks = torch_dist.get_world_size()
    topology = TopologyFactory.create_topology(
        TrainerConfig(world_size=ranks, local_world_size=ranks),
        HardwareConfig(ddr_cap_bytes=16 << 30),
        KernelConfig(compute_device=device.type),
    )
    planner = EmbeddingShardingPlanner(
        topology=topology, batch_size=batch_size, storage_reservation=FixedPercentageStorageReservation(0.25)
    )
    plan = planner.collective_plan(model, pg=torch_dist.group.WORLD)
    sharded = DistributedModelParallel(model, device=device, plan=plan)
    dense_optimizer = KeyedOptimizerWrapper(
        dict(in_backward_optimizer_filter(sharded.named_parameters())), lambda p: torch.optim.Adam(p, lr=2e-3)
    )
    return sharded, CombinedOptimizer([sharded.fused_optimizer, dense_optimizer])


def read_batches(source: Path, batch_size: int, count: int, rank: int, ranks: int) -> list[PlainBatch]:
    """Batches of this rank's files, complete ones only."""
    files = sorted((source / "train").glob("*.parquet"))[rank::ranks]
    batches: list[PlainBatch] = []
    for file in files:
        table = pq.read_table(file).combine_chunks()
        for start in range(0, table.num_rows - batch_size + 1, batch_size):
            if len(batches) == count:
                return batches
            batches.append(plain_batch(table.slice(start, batch_size)))
    return batches


def plain_batch(table: pa.Table) -> PlainBatch:
    """One batch of some rows of the workload."""
    rows = table.num_rows
    keys = [name for name in table.column_names if name.startswith("c") and name[1:].isdigit()] + ["domain"]
    values = [table[key].to_numpy() for key in keys]
    lengths = [np.ones(rows, np.int32)] * len(keys)
    for key in LISTS:
        column = table[key].combine_chunks()
        values.append(column.flatten().to_numpy())
        lengths.append(np.diff(column.offsets.to_numpy()))
    sparse = KeyedJaggedTensor(
        keys=[*keys, *LISTS],
        values=torch.from_numpy(np.concatenate(values)),
        lengths=torch.from_numpy(np.concatenate(lengths)),
    )
    scalars = [table[name].to_numpy() for name in table.column_names if name.startswith("d") and name[1:].isdigit()]
    vector = table[VECTOR].combine_chunks().flatten().to_numpy().reshape(rows, -1)
    dense = np.concatenate([vector, np.stack(scalars, 1)], 1).astype(np.float32)
    labels = np.stack([table[name].to_numpy() for name in LABELS], 1).astype(np.float32)
    return PlainBatch(sparse, torch.from_numpy(dense), torch.from_numpy(labels))


def _wait_for_all(cuda: bool) -> None:
    torch_dist.barrier()
    if cuda:
        torch.cuda.synchronize()


def cardinalities_of(source: Path) -> dict[str, int]:
    """Key -> rows of its table."""
    schema = json.loads((source / "schema.json").read_text(encoding="utf-8"))
    tables = {f"c{k:02d}": rows for k, rows in enumerate(schema["cards"])} | {"domain": schema["n_domain"]}
    return tables | {key: schema["seq_vocab"] for key in LISTS}


def main(
    source: Annotated[Path, typer.Option()],
    steps: int = 40,
    warm_up: int = 10,
    batch_size: int = 4096,
    batches: int = 24,
) -> None:
    """Trains and prints samples per second of all ranks together."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    torch_dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    rank, ranks = torch_dist.get_rank(), torch_dist.get_world_size()
    held = read_batches(source, batch_size, batches, rank, ranks)
    if cuda:
        held = [batch.pin_memory() for batch in held]
    sharded, optimizer = shard_plain(cardinalities_of(source), held[0].dense.shape[1], batch_size, device)
    pipeline = TrainPipelineSparseDist(sharded, optimizer, device, execute_all_batches=True)  # type: ignore[arg-type]

    def endless() -> Iterator[PlainBatch]:
        while True:
            yield from held

    iterator = endless()
    for _ in range(warm_up):
        pipeline.progress(iterator)
    _wait_for_all(cuda)
    started = time.perf_counter()
    for _ in range(steps):
        pipeline.progress(iterator)
    _wait_for_all(cuda)
    seconds = time.perf_counter() - started
    if rank == 0:
        print(json.dumps({"samples_per_s": steps * batch_size * ranks / seconds, "ranks": ranks}), flush=True)
    torch_dist.destroy_process_group()


if __name__ == "__main__":
    typer.run(main)
