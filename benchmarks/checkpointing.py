"""What checkpoints cost a training, and how soon one that was interrupted goes on, into docs/results/reliability.md.

    python -m benchmarks.checkpointing --repeats 5

Trains the demo's experiment on two ranks with the demo's checkpoints (one an epoch), with one every 50 steps, and without any,
in turns. Then the newest checkpoints of the second are taken away and it is run again.
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from foundrank.dist.study.markdown_sections import write_section

from .jobs import Out, Work, run_foundrank

RANKS, CLOSE = 2, 50
NONE, DEMO, OFTEN = "none", "one an epoch, as in the demo", f"one every {CLOSE} steps"
_IMPORTS = "process and imports"


def checkpointing(
    repeats: Annotated[int, typer.Option(min=1, help="rounds")] = 5,
    rows: Annotated[int, typer.Option(min=20_000, help="events of the simulated data")] = 600_000,
    work: Work = Path("runs/checkpointing"),
    out: Out = Path("docs/results/reliability.md"),
) -> None:
    """Measures and writes the section."""
    data, run = work / "data", work / "run"
    if not (data / "text_store").is_dir():
        shutil.rmtree(data, ignore_errors=True)
        run_foundrank("simulate", data, "--rows", rows)
        run_foundrank("embed", data)
    seconds: dict[str, list[float]] = {NONE: [], DEMO: [], OFTEN: []}
    starts: dict[str, list[dict[str, float]]] = {"new": [], "resumed": []}
    for _ in range(repeats):
        for name in seconds:
            shutil.rmtree(run, ignore_errors=True)
            info, began = _train(data, run, name)
            seconds[name].append(_loop_seconds(info))
            print(f"checkpoints: {name}: {seconds[name][-1]:.2f} s", flush=True)
        starts["new"].append(_start(info, began))
        steps = _interrupt(run)
        info, began = _train(data, run, OFTEN)
        starts["resumed"].append(_start(info, began))
        print(f"resumed after step {steps}: {starts['resumed'][-1]}", flush=True)
    size = sum(f.stat().st_size for f in (run / "checkpoints" / f"step_{info['steps']:08d}").iterdir()) / 1e6
    write_section(out, "checkpointing", _section(seconds, starts, info["steps"], size, repeats))


def _train(data: Path, run: Path, checkpoints: str) -> tuple[dict[str, Any], float]:
    """Trains; what the run says of itself, and when the command began."""
    module = "benchmarks.without_checkpoints" if checkpoints == NONE else "foundrank.dist.cli"
    command = ["torchrun", "--nproc_per_node", str(RANKS), "-m", module, "train", str(data), "--run-dir", str(run)]
    settings = "training.keep_best=false" + (f";training.checkpoint_every={CLOSE}" if checkpoints == OFTEN else "")
    began = time.time()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "--set", settings], check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return json.loads((run / "run.json").read_text(encoding="utf-8")), began


def _interrupt(run: Path) -> int:
    """Leaves a run as if it had been killed half-way; the step it will go on from."""
    folders = sorted((run / "checkpoints").glob("step_*"))
    steps = int(folders[0].name.split("_")[1])
    for folder in folders[1:]:
        shutil.rmtree(folder)
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps({"format": info["format"]}), encoding="utf-8")
    return steps


def _loop_seconds(info: dict[str, Any]) -> float:
    """From the first step to the last, the last checkpoint written."""
    return info["seconds"] - sum(s for part, s in info["startup_s"].items() if part != _IMPORTS)


def _start(info: dict[str, Any], began: float) -> dict[str, float]:
    """Seconds until the first step was done, of the command, of a rank's process, and of its own work."""
    parts = info["startup_s"]
    return {
        "command": info["first_step_at"] - began,
        "process": sum(parts.values()),
        "work": sum(parts.values()) - parts[_IMPORTS],
    }


def _section(
    seconds: dict[str, list[float]], starts: dict[str, list[dict[str, float]]], steps: int, size: float, repeats: int
) -> str:
    lines = []
    for name, measured in seconds.items():
        ratios = np.array(measured) / np.array(seconds[NONE])
        shown = "" if name == NONE else f"{np.median(ratios):.3f} ({ratios.min():.3f}–{ratios.max():.3f})"
        lines.append(f"| {name} | {np.median(measured):.1f} | {shown} |")
    start_lines = []
    for name, measured in starts.items():
        cells = [f"{np.median([one[of] for one in measured]):.1f}" for of in ("command", "process", "work")]
        start_lines.append(f"| {name} | {' | '.join(cells)} |")
    return f"""### What checkpoints cost

    python -m benchmarks.checkpointing --repeats {repeats}

The demo's experiment on {RANKS} ranks, {steps} steps, {size:.1f} MB a checkpoint; medians of {repeats} interleaved rounds, without validation.
Seconds are from the first step until the last checkpoint is written, ratios within a round.

| checkpoints | seconds | ratio to none |
| --- | ---: | ---: |
{chr(10).join(lines)}

Seconds until the first step is done, since the command was given, since a rank's process began, and without its imports:

| training | command | process | work |
| --- | ---: | ---: | ---: |
{chr(10).join(start_lines)}"""


if __name__ == "__main__":
    typer.run(checkpointing)
