"""Lookups and updates of embedding tables, as a share of what the device's memory can move; one line of JSON.

    python -m benchmarks.lookups --rows 32768

Tables are FBGEMM's, as training has them: pooled by sum, row-wise Adagrad fused into the backward. A lookup reads one row; an update reads
and writes it, and reads its gradient. The yardstick is a copy of as many bytes as the tables have, which reads and writes each once.
"""

import json
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from fbgemm_gpu.split_embedding_configs import EmbOptimType, SparseType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
from fbgemm_gpu.split_table_batched_embeddings_ops_training import ComputeDevice, SplitTableBatchedEmbeddingBagsCodegen

_FLOAT = 4


def lookups(
    rows: Annotated[int, typer.Option(min=1, help="rows of a batch")] = 32_768,
    tables: Annotated[int, typer.Option(min=1)] = 16,
    size: Annotated[int, typer.Option(min=1, help="rows of a table")] = 1_000_000,
    width: Annotated[int, typer.Option(min=4)] = 64,
    bag: Annotated[int, typer.Option(min=1, help="ids of a bag")] = 4,
    half: Annotated[bool, typer.Option("--half", help="float16 tables")] = False,
    repeats: Annotated[int, typer.Option(min=1)] = 20,
) -> None:
    """Measures forward, forward with backward, and a copy, and prints medians."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    place = EmbeddingLocation.DEVICE if cuda else EmbeddingLocation.HOST
    computes = ComputeDevice.CUDA if cuda else ComputeDevice.CPU
    bags = SplitTableBatchedEmbeddingBagsCodegen(
        [(size, width, place, computes)] * tables,
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        weights_precision=SparseType.FP16 if half else SparseType.FP32,
        device=device,
    )
    ids = torch.randint(size, (tables * rows * bag,), device=device)
    offsets = torch.arange(0, tables * rows * bag + 1, bag, device=device)
    gradient = torch.randn(rows, tables * width, device=device)
    held = torch.empty(min(tables * size * width, 1 << 29), device=device).zero_()
    copied = torch.empty_like(held)

    def median(work: Callable[[], object]) -> float:
        seconds = []
        for _ in range(repeats + 3):
            _wait(cuda)
            started = time.perf_counter()
            work()
            _wait(cuda)
            seconds.append(time.perf_counter() - started)
        return sorted(seconds[3:])[repeats // 2]

    def train() -> None:
        bags(ids, offsets).backward(gradient)

    copy = 2 * held.nbytes / median(lambda: copied.copy_(held))
    with torch.no_grad():
        forward = median(lambda: bags(ids, offsets))
    both = median(train)
    a_row = width * (2 if half else 4)
    read = len(ids) * (a_row + ids.element_size()) + gradient.nbytes
    updated = read + len(ids) * (2 * a_row + ids.element_size() + 2 * _FLOAT) + gradient.nbytes
    found = {
        "copy_gb_s": copy / 1e9,
        "lookup_share": read / forward / copy,
        "training_share": updated / both / copy,
        "lookup_ms": forward * 1e3,
        "training_ms": both * 1e3,
    }
    print(json.dumps({name: round(value, 3) for name, value in found.items()}), flush=True)


def _wait(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    typer.run(lookups)
