"""How fast this checkout trains and scores the standard workload beside another one: no figure may fall unseen.

    python -m benchmarks.between --source FOLDER --other CHECKOUT --repeats 7

CHECKOUT has an environment of its own in ``.venv``. The two take turns, the second of a round being the first of the next;
rates are compared within a round, and the interval is the middle 95 % of means of rounds drawn with replacement.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .jobs import RANKS, Repeats, Source, Work, scored_rate, trained_rate
from .speed import write_scoring_input
from .workload_experiment import write_workload

_MODELS = ("plain", "full")


def between(
    source: Source,
    other: Annotated[Path, typer.Option(help="the checkout to compare with")],
    repeats: Repeats = 7,
    steps: Annotated[int, typer.Option(min=20, help="of a training; the first tenth does not count")] = 160,
    work: Work = Path("runs/between"),
) -> None:
    """Measures, and prints a line of JSON per figure."""
    work = work.absolute()
    write_workload(source, work)
    write_scoring_input(source, work / "input")
    places = {"other": other.absolute(), "here": Path.cwd()}
    for name, place in places.items():
        if not (work / f"run-{name}" / "report.html").exists():
            _run(place, "train", work / "plain.yaml", "--run-dir", work / f"run-{name}", "-p", RANKS)
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(repeats):
        order = list(places)[:: 1 if number % 2 else -1]
        for figure in (*_MODELS, "scoring"):
            for name in order:
                rate = _rate(figure, places[name], work, name, steps)
                found.setdefault(figure, {}).setdefault(name, []).append(rate)
                print(f"round {number + 1}: {figure}, {name}: {rate:,.0f} rows/s", file=sys.stderr, flush=True)
    for figure, rates in found.items():
        print(json.dumps({"figure": figure} | _compared(rates)))


def _rate(figure: str, place: Path, work: Path, name: str, steps: int) -> float:
    """Rows per second."""
    if figure in _MODELS:
        run = work / "timed"
        shutil.rmtree(run, ignore_errors=True)
        options = f"training.max_steps={steps};training.log_every={steps // 10}"
        _run(place, "train", work / f"{figure}.yaml", "--run-dir", run, "-p", RANKS, "--set", options)
        return trained_rate(run)
    shutil.rmtree(work / "scores", ignore_errors=True)
    return scored_rate(_run(place, "score", work / f"run-{name}", work / "input", work / "scores", "-p", RANKS))


def _run(place: Path, *arguments: object) -> str:
    """What a command of a checkout prints."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{place / '.venv/bin'}:{os.environ['PATH']}"}
    command = [str(place / ".venv/bin/python"), "-m", "foundrank.dist.cli", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=place)
    return done.stdout


def _compared(rates: Mapping[str, list[float]]) -> dict[str, float | list[float]]:
    ratios = np.array(rates["here"]) / np.array(rates["other"])
    drawn = np.random.default_rng(0).choice(ratios, (10_000, len(ratios))).mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {
        "rounds": len(ratios),
        "here ÷ other, median": round(float(np.median(ratios)), 3),
        "interval of the mean": [round(float(low), 3), round(float(high), 3)],
        "single rounds": [round(float(ratio), 3) for ratio in ratios],
    }


if __name__ == "__main__":
    typer.run(between)
