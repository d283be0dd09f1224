"""How much faster two ranks count than one, each pinned to a core, and what memory each takes.

    python -m benchmarks.counting --source FOLDER --repeats 5 --times 4

FOLDER is what the workload generator wrote; more rows are its files over and over: ids stay as many. Rounds are interleaved.
"""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from foundrank.data.batch.rate_counting import count_rates
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.load import load_experiment
from foundrank.data.counting.counting_pass import count
from foundrank.data.events.check_events import check_events
from foundrank.dist.ranks.runtime import start
from foundrank.model.kinds import KINDS

from .jobs import Repeats, Source, Work, last_line
from .workload_experiment import write_workload

AT_MOST = 2  # ranks


def counting(
    source: Source,
    work: Work = Path("runs/speed"),
    repeats: Repeats = 5,
    times: Annotated[int, typer.Option(min=1, help="how many times the rows are read")] = 1,
    as_rank: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Measures and prints."""
    if as_rank:
        return _as_rank(work, times)
    write_workload(source, work.absolute())
    options = ["--source", source, "--work", work.absolute(), "--times", times, "--as-rank"]
    found: dict[int, list[dict[str, list[float]]]] = {1: [], AT_MOST: []}
    for _ in range(repeats):
        for ranks, of_ranks in found.items():
            of_ranks.append(
                last_line(["torchrun", "--nproc_per_node", str(ranks), "-m", "benchmarks.counting", *options])
            )
    for what in ("counting", "rates"):
        ratios = [max(one[what]) / max(two[what]) for one, two in zip(found[1], found[AT_MOST], strict=True)]
        told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        seconds = median(max(one[what]) for one in found[1])
        print(f"{what}: {seconds:.1f} s on one rank; {AT_MOST} are {median(ratios):.2f} times as fast ({told})")
    for ranks, of_ranks in found.items():
        print(f"peak MB of {ranks} rank(s):", ", ".join(f"{size:,.0f}" for size in of_ranks[-1]["peak_mb"]))


def _as_rank(work: Path, times: int) -> None:
    with start() as runtime:
        os.sched_setaffinity(0, {runtime.rank})
        experiment = load_experiment(work / "plain.yaml", kinds=KINDS)
        events = check_events(experiment, ["train"], values=False)
        train = {
            name: replace(of["train"], files=of["train"].files * times, group_rows=of["train"].group_rows * times)
            for name, of in events.items()
        }
        runtime.barrier()
        began = time.perf_counter()
        statistics = count(experiment, train, ranks=runtime)
        runtime.barrier()
        counted = time.perf_counter()
        rated = load_experiment(work / "plain.yaml", ["model.rates=true"], kinds=KINDS)
        encoder = RowEncoder(rated, replace(statistics, rate_columns=()))
        began_rates = time.perf_counter()
        count_rates(encoder, train, ranks=runtime)
        runtime.barrier()
        of_rank = {"counting": counted - began, "rates": time.perf_counter() - began_rates, "peak_mb": _peak_mb()}
        of_ranks = runtime.gather(of_rank)
        if runtime.is_main:
            print(json.dumps({name: [each[name] for each in of_ranks] for name in of_rank}))


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    typer.run(counting)
