"""How long a training takes from its command to the end of its first step, beside importing PyTorch and TorchRec.

    python -m benchmarks.first_step --source FOLDER --repeats 7

Of the standard workload's 2,000,000 rows on two ranks, which are checked and counted first, and of a small simulated data set in one process. The
three take turns, the second round the other way round.
"""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import typer

from .jobs import RANKS, Repeats, Source, Work, import_seconds, in_turns, run_foundrank
from .workload_experiment import write_workload

_STEPS = "training.max_steps=1"
_SMALL = 20_000  # rows


def first_step(source: Source, repeats: Repeats = 7, work: Work = Path("runs/speed")) -> None:
    """Measures, and prints a line of JSON."""
    work = work.absolute()
    write_workload(source, work)
    small = work / "small"
    if not small.exists():
        run_foundrank("simulate", small, "--rows", _SMALL)

    def training(*arguments: object) -> float:
        run = work / "first"
        shutil.rmtree(run, ignore_errors=True)
        began = time.time()
        run_foundrank("train", *arguments, "--run-dir", run)
        return json.loads((run / "run.json").read_text(encoding="utf-8"))["first_step_at"] - began

    settings = f"{_STEPS};model.aspects=[id, sparse]"
    measured = {
        "import": import_seconds,
        f"{RANKS} ranks, 2,000,000 rows": lambda: training(work / "plain.yaml", "-p", RANKS, "--set", _STEPS),
        f"one process, {_SMALL:,} rows": lambda: training(small, "--set", settings),
    }
    seconds = in_turns(measured, repeats)
    for name, of in seconds.items():
        ratios = np.array(of) / np.array(seconds["import"])
        told = {
            "seconds, median": round(float(np.median(of)), 2),
            "\N{DIVISION SIGN} import, median": round(float(np.median(ratios)), 2),
            "single rounds": [round(float(ratio), 2) for ratio in ratios],
        }
        print(json.dumps({"what": name} | told, ensure_ascii=False))


if __name__ == "__main__":
    typer.run(first_step)
