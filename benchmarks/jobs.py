"""The jobs of a benchmark: foundrank's own commands, and modules of benchmarks/ that print a line of JSON."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer

Source = Annotated[Path, typer.Option(help="folder of the standard workload")]
Repeats = Annotated[int, typer.Option(min=1, help="rounds")]
Work = Annotated[Path, typer.Option(help="folder for data and runs")]
Out = Annotated[Path, typer.Option(help="Markdown file to put the section into")]

RANKS = 2

_LOOK_EVERY = 0.1  # seconds


def run_foundrank(*arguments: object, threads: int | None = None) -> str:
    """Runs a command line, with some threads per process or as many as it chooses, and returns what it printed."""
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    return subprocess.run(
        _command(arguments), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ).stdout


def assigned(changes: Iterable[str]) -> list[str]:
    """Command line options that change an experiment."""
    return [word for change in changes for word in ("--set", change)]


def source_of(data: Path, name: str) -> Path:
    """The folder of a data set, as `foundrank import` calls it, below that of all data sets."""
    return next(each for each in (data / name, data / name.replace("-", "_")) if each.is_dir())


def compared(
    file: Path, arms: Mapping[str, Sequence[Path]], *options: object, threads: int | None = None
) -> list[dict[str, Any]]:
    """What `foundrank compare` says of all rows, of arms and their runs, the first of which the others are held against; ``file`` keeps it."""
    if not file.is_file():
        asked = [f"{arm}={','.join(map(str, runs))}" for arm, runs in arms.items()]
        run_foundrank("compare", *asked, *options, "--out", file, threads=threads)
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if row["slice"] == "all"]


def run_watched(*arguments: object) -> tuple[str, list[float]]:
    """Runs a command line, and looks at its memory ten times a second.

    Returns:
        What it printed, and the most memory in MB that each of its processes was seen to hold, largest first.
    """
    command = _command(arguments)
    with tempfile.TemporaryFile("w+") as said:
        process = psutil.Popen(command, stdout=said, stderr=subprocess.DEVNULL)
        most: dict[int, int] = {}
        while process.poll() is None:
            for each in (process, *_children(process)):
                try:
                    most[each.pid] = max(most.get(each.pid, 0), each.memory_info().rss)
                except psutil.Error:
                    continue  # it has just ended
            time.sleep(_LOOK_EVERY)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        said.seek(0)
        return said.read(), sorted((size / 2**20 for size in most.values()), reverse=True)


def run_ranks(module: str, *options: object) -> dict[str, Any]:
    """What a module prints last, run as `RANKS` ranks."""
    return last_line(["torchrun", "--nproc_per_node", str(RANKS), "-m", module, *options])


def in_turns(measured: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """What each gives, round by round: they take turns, the last of a round being the first of the next."""
    found: dict[str, list[float]] = {name: [] for name in measured}
    for number in range(repeats):
        for name in list(measured)[:: 1 if number % 2 else -1]:
            found[name].append(measured[name]())
            print(f"round {number + 1}: {name}: {found[name][-1]:.2f}", file=sys.stderr, flush=True)
    return found


def import_seconds() -> float:
    """How long a process takes that imports PyTorch and TorchRec."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, torchrec"], check=True)
    return time.perf_counter() - began


def last_line(command: list[object], threads: int = 1) -> dict[str, Any]:
    """Runs a command, some threads per process, and reads its last line."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        list(map(str, command)),
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    return json.loads(done.stdout.splitlines()[-1])


def trained_rate(run: Path) -> float:
    """Samples per second of a training: the median of its log's lines, without the first."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return float(np.median([line["samples_per_s"] for line in lines[1:]]))


def scored_rate(said: str) -> float:
    """Rows per second, from what `foundrank score` printed."""
    return float(said.split(", ")[-1].split(" rows/s")[0].replace(",", ""))


def spread(values: np.ndarray, digits: int = 2) -> str:
    """The median of some figures, and the least and the largest."""
    return f"{np.median(values):.{digits}f} ({values.min():.{digits}f}–{values.max():.{digits}f})"


def _command(arguments: Sequence[object]) -> list[str]:
    return [sys.executable, "-m", "foundrank.dist.cli", *map(str, arguments)]


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []
