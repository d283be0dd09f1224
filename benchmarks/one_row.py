"""How long a job takes that scores one row, beside importing PyTorch and TorchRec: what a nightly job costs before it works.

    python -m benchmarks.one_row --repeats 7

The two take turns, the second of a round being the first of the next.
"""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import typer

from .jobs import Repeats, Work, import_seconds, in_turns, run_foundrank

_DOMAIN = "shop_feed"


def one_row(repeats: Repeats = 7, work: Work = Path("runs/one_row")) -> None:
    """Measures, and prints a line of JSON."""
    world, run, row = work / "world", work / "run", work / "row.parquet"
    if not row.exists():
        shutil.rmtree(work, ignore_errors=True)
        run_foundrank("simulate", world, "--rows", 20_000)
        run_foundrank("train", world, "--run-dir", run, "--set", "model.aspects=[id, sparse]; training.max_steps=2")
        pq.write_table(pq.read_table(world / "events" / _DOMAIN / "test").slice(0, 1), row)

    def score() -> float:
        began = time.perf_counter()
        shutil.rmtree(work / "out", ignore_errors=True)
        run_foundrank("score", run, row, work / "out", "--domain", _DOMAIN)
        return time.perf_counter() - began

    seconds = in_turns({"score": score, "import": import_seconds}, repeats)
    ratios = np.array(seconds["score"]) / np.array(seconds["import"])
    medians = {name: round(float(np.median(of)), 2) for name, of in seconds.items()}
    print(
        json.dumps(
            {
                "rounds": repeats,
                "seconds, medians": medians,
                "score ÷ import, median": round(float(np.median(ratios)), 3),
                "single rounds": [round(float(ratio), 3) for ratio in ratios],
            }
        )
    )


if __name__ == "__main__":
    typer.run(one_row)
