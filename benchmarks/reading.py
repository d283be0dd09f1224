"""foundrank's reader, Parquet to batches, against pyarrow's bare decode of the same columns, on one thread each.

    python -m benchmarks.reading --experiment plain.yaml --run-dir RUN

Prints rows per second of both as one line of JSON; the bare decode runs before and after, and its two rates are averaged.
"""

import json
import time
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.events.check_events import check_events
from foundrank.data.schema.column_needs import needed_columns
from foundrank.dist.ranks.runtime import start
from foundrank.model.kinds import KINDS

from .training_step import open_reader


def reading(
    experiment: Annotated[Path, typer.Option()],
    run: Annotated[Path, typer.Option("--run-dir", help="run folder of the experiment")],
) -> None:
    """Reads the training events both ways."""
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    loaded = load_experiment(experiment, [], kinds=KINDS)
    reader, _, plan = open_reader(loaded, run, 0, 1)
    bare = _bare(loaded)
    usual = pa.default_memory_pool()
    with start():  # memory is asked for and kept as in foundrank's jobs
        started = time.perf_counter()
        rows = sum(batch.rows for batch in reader.batches(plan))
        ours = rows / (time.perf_counter() - started)
    pa.set_memory_pool(usual)
    print(json.dumps({"rows_per_s": ours, "bare_rows_per_s": (bare + _bare(loaded)) / 2}))


def _bare(experiment: Experiment) -> float:
    """Rows per second of reading every row group of the training events, and nothing else."""
    rows, seconds = 0, 0.0
    for name, of_domain in check_events(experiment).items():
        columns = [need.name for need in needed_columns(experiment, name)]
        started = time.perf_counter()
        for path in of_domain["train"].files:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    rows += file.read_row_group(group, columns=columns, use_threads=False).num_rows
        seconds += time.perf_counter() - started
    return rows / seconds


if __name__ == "__main__":
    typer.run(reading)
