"""What measuring holds in each rank's memory: the peak of every rank, beyond that of the process, for two numbers of rows.

    python -m benchmarks.evaluation_memory --ranks 2

Predictions are generated, each rank its share, as `predict` would leave them there. They are written as the file that
`evaluate --predictions` keeps, and then measured in all slices, in processes that are set up as a command's ranks are. No rank's peak
is to follow the rows of all ranks, and rank 0, which writes, is not to need much more than the others.
"""

import json
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch.multiprocessing as processes
import typer

from foundrank.dist.evaluate.measured import measured_rows
from foundrank.dist.evaluate.prediction_file import write_predictions
from foundrank.dist.ranks.cores import set_threads
from foundrank.dist.ranks.launch import STORE
from foundrank.dist.ranks.runtime import start
from foundrank.model.tasks.binary import Binary
from foundrank.model.tasks.regression import Regression

_TASKS = {"click": Binary(label="click"), "seconds": Regression(label="seconds")}
_LAYOUT: Any = SimpleNamespace(domains=["home"], tasks=[*_TASKS], entities=["user", "item"], task_weights=[[1.0, 1.0]])
_DOMAIN = SimpleNamespace(tasks=_TASKS, list_column="page", weighs_metrics_of=lambda task: False)
_ENCODER: Any = SimpleNamespace(layout=_LAYOUT, experiment=SimpleNamespace(domains={"home": _DOMAIN}))


def peak() -> int:
    """Bytes that this process has held at most."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def predictions(rank: int, rows: int, every: int) -> dict[str, np.ndarray]:
    """A rank's rows, of ``every`` that all have."""
    random = np.random.default_rng(rank)
    labels = np.stack([random.random(rows) < 0.1, random.exponential(30, rows)], 1).astype(np.float32)
    return {
        "domain": np.zeros(rows, np.int32),
        "labels": labels,
        "mask": np.ones((rows, 2), bool),
        "scores": (labels / 4 + random.random((rows, 2), np.float32)).clip(0, 1),
        "counts": random.integers(0, 200, (rows, 2)),
        "user": random.integers(0, every // 20, rows).astype(np.uint64),
        "user_known": np.ones(rows, bool),
        "list": random.integers(0, every // 10, rows).astype(np.uint64),
        "list_known": np.ones(rows, bool),
    }


def _rank(rank: int, ranks: int, rows: int, folder: str) -> None:
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    os.environ.update({name: str(value) for name, value in told.items()} | {STORE: f"{folder}/store"})
    with start() as runtime:
        pa.array(np.zeros(0))  # imports pandas, which every rank of an evaluation has from reading
        before = peak()
        columns = predictions(rank, rows // ranks, rows)
        write_predictions(Path(folder) / "test.parquet", columns, _LAYOUT, {}, runtime)
        measured_rows(_ENCODER, columns, runtime)
        everyone = runtime.gather(round((peak() - before) / 1e6))
        if runtime.is_main:
            print(json.dumps({"rows": rows, "MB": everyone}), flush=True)


def evaluation_memory(
    ranks: Annotated[int, typer.Option(min=1)] = 2, rows: Annotated[int, typer.Option(min=1000)] = 500_000
) -> None:
    """Measures ``rows`` rows and four times as many, and prints the peak of every rank, in rank order."""
    set_threads(ranks)
    for many in (rows, 4 * rows):
        with tempfile.TemporaryDirectory() as folder:
            processes.spawn(_rank, (ranks, many, folder), nprocs=ranks)  # type: ignore[attr-defined]


if __name__ == "__main__":
    typer.run(evaluation_memory)
