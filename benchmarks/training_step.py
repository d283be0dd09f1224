"""foundrank's training step alone, over batches held in memory; rank 0 prints its figures as one line of JSON.

    torchrun --nproc_per_node 2 -m benchmarks.training_step --experiment plain.yaml --run-dir RUN --steps 40

RUN is a run folder of the experiment, whose counts of the events are used; other settings may differ. With --decode a
thread decodes the experiment's Parquet files at the step's pace and throws the rows away: no training from Parquet that
decodes with pyarrow on the same cores can be faster. With --empty the network does nothing: what is left is what TorchRec,
FBGEMM and the exchange between ranks take for the same tables, ids and parameters. With --count it prints how many operators
the host starts in a step, by part of the model, and how long that takes it; with --as-on-gpu besides, layers take the form that
they have on GPUs, on whatever device they are:

    python -m benchmarks.training_step --experiment full.yaml --run-dir RUN --set training.batch_size=64 --count --as-on-gpu
"""

import itertools
import json
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torchrec import KeyedTensor
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from foundrank.data.batch.batch import Batch
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.epoch.order import RankOrder, deal, epoch_chunks
from foundrank.data.epoch.reader import Reader
from foundrank.data.events.check_events import check_events
from foundrank.data.events.event_files import read_group
from foundrank.data.prefetch import prefetch
from foundrank.data.schema.column_needs import needed_columns
from foundrank.data.schema.sizes import padded_rows
from foundrank.dist.ranks.cores import keep_to_own_cores
from foundrank.dist.ranks.runtime import start
from foundrank.dist.retrieval.retrieval import draw_candidates
from foundrank.dist.run.run_folder import open_run
from foundrank.dist.sharding.shard import compile_dense, shard
from foundrank.dist.train.optimizer import Optimizer
from foundrank.dist.train.train import SWITCH_SECONDS
from foundrank.model.foundation.foundation import Dense
from foundrank.model.kinds import KINDS

from .step_operators import Operators, as_on_a_gpu, table


def open_reader(experiment: Experiment, run: Path, rank: int, ranks: int) -> tuple[Reader, RowEncoder, RankOrder]:
    """A reader of the training events, its encoder, and what this rank reads in the first epoch."""
    _, statistics = open_run(run)
    encoder = RowEncoder(experiment, statistics)
    names, training = encoder.layout.domains, experiment.training
    files = {names.index(name): of_domain["train"] for name, of_domain in check_events(experiment).items()}
    lists = {names.index(name): of_domain for name, of_domain in statistics.lists.items()}
    chunks = epoch_chunks(files, dict.fromkeys(files, 1.0), experiment.seed, 0, training.shuffle_rows, lists)
    plan = deal(chunks, ranks, training.batch_size)[rank]
    padded = padded_rows(training.batch_size, len(names), [of_domain.longest for of_domain in lists.values()])
    return Reader(encoder, files, padded), encoder, plan


def decoding(held: list[Batch], experiment: Experiment) -> Iterator[Batch]:
    """The batches held, over and over; as many rows as they have are decoded from the training events meanwhile."""
    batches, owed = itertools.cycle(held), 0
    while True:
        for name, of_domain in check_events(experiment).items():
            columns = list(dict.fromkeys(need.name for need in needed_columns(experiment, name)))
            for path, group in of_domain["train"].row_groups:
                owed += read_group(path, group, columns).num_rows
                while owed >= experiment.training.batch_size:
                    batch = next(batches)
                    owed -= batch.rows
                    yield batch


def empty(model: Dense, pooled: KeyedTensor, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
    """In place of the network: every lookup and every parameter gets a gradient, and nothing is computed."""
    loss = pooled.values().sum() + sum(parameter.sum() for parameter in model.parameters())
    return loss, {}


def step_only(
    experiment: Annotated[Path, typer.Option()],
    run: Annotated[Path, typer.Option("--run-dir")],
    settings: Annotated[list[str] | None, typer.Option("--set")] = None,
    steps: int = 40,
    warm_up: int = 10,
    batches: int = 24,
    decode: Annotated[bool, typer.Option("--decode", help="decode as many rows in a thread")] = False,
    without_network: Annotated[bool, typer.Option("--empty", help="a network that does nothing")] = False,
    trace: Annotated[bool, typer.Option(help="print where the time of rank 0 goes")] = False,
    count: Annotated[bool, typer.Option("--count", help="print how many operators a step of rank 0 starts")] = False,
    on_gpu: Annotated[bool, typer.Option("--as-on-gpu", help="layers in their form for GPUs")] = False,
) -> None:
    """Trains on the same few batches over and over."""
    loaded = load_experiment(experiment, settings or [], kinds=KINDS)
    with start() as runtime, as_on_a_gpu() if on_gpu else nullcontext():
        keep_to_own_cores(runtime.device)
        reader, encoder, plan = open_reader(loaded, run, runtime.rank, runtime.world_size)
        held = list(itertools.islice(reader.batches(plan, draw=draw_candidates(encoder, runtime.rank)(0)), batches))
        if runtime.device.type == "cuda":
            held = [batch.pin_memory() for batch in held]
        if without_network:
            Dense.forward = empty
        sharded = shard(encoder.layout, loaded, runtime)
        compile_dense(sharded, loaded, runtime)
        optimizer = Optimizer(sharded, loaded.training)
        pipeline = TrainPipelineSparseDist(sharded, optimizer, runtime.device, execute_all_batches=True)  # type: ignore[arg-type]
        iterator = itertools.cycle(held)
        if decode:
            sys.setswitchinterval(SWITCH_SECONDS)
            iterator = prefetch(decoding(held, loaded), loaded.training.prefetch_batches)

        def together() -> None:
            runtime.barrier()
            if runtime.device.type == "cuda":
                torch.cuda.synchronize()

        def take(count: int) -> float:
            together()
            started = time.perf_counter()
            for _ in range(count):
                optimizer.set_progress(0.5)
                pipeline.progress(iterator)
            together()
            return time.perf_counter() - started

        take(warm_up)
        seconds = take(steps)
        if trace:
            with_gpu = runtime.device.type == "cuda"
            with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * with_gpu) as profiler:
                take(5)
            if runtime.is_main:
                spent = "self_device_time_total" if with_gpu else "self_cpu_time_total"
                print(profiler.key_averages().table(sort_by=spent, row_limit=45))
        if count:
            operators = Operators(sharded)
            with operators.watching(optimizer):
                take(4)
            if runtime.is_main:
                print(table(operators, 4), f"\n{seconds / steps * 1000:.1f} ms a step", flush=True)
        rows = sum(held[step % len(held)].rows for step in range(steps)) * runtime.world_size
        if runtime.is_main:
            print(json.dumps({"samples_per_s": rows / seconds, "ranks": runtime.world_size}), flush=True)


if __name__ == "__main__":
    typer.run(step_only)
