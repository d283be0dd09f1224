"""A training on two hosts whose cable is slowed down, beside what `foundrank plan` says of it, into docs/results/performance.md.

    sudo python -m benchmarks.two_hosts --source FOLDER

The hosts are network namespaces of this machine, with a cable to a switch each; what one sends is shaped to a rate. A rank trains on each.
What the network costs is the time of a step less that without shaping, and is compared with what the plan reckons for the
exchanges at that rate. Rates take turns, round by round.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.schema.layout import Layout
from foundrank.dist.capacity.cluster import Cluster
from foundrank.dist.capacity.footprint import footprint
from foundrank.dist.capacity.plan import Fit, exchange_ms, planned_layout
from foundrank.dist.study.markdown_sections import write_section
from foundrank.model.kinds import KINDS
from tests.launch.hosts import hosts_on_a_switch

from .jobs import Out, Repeats, Source, Work, spread
from .machine import calibration
from .workload_experiment import write_workload

_STEPS, _LOG = 40, 5
_MODELS = ("plain", "full")


def two_hosts(
    source: Source,
    repeats: Repeats = 3,
    work: Work = Path("runs/speed"),
    out: Out = Path("docs/results/performance.md"),
    rates: Annotated[str, typer.Option(help="megabits a second, comma-separated")] = "2000,500,200,100",
) -> None:
    """Measures and writes the section."""
    work = work.absolute()
    write_workload(source, work)
    asked = [None, *map(int, rates.split(","))]
    found: dict[tuple[str, int | None], list[float]] = {}
    for number in range(repeats):
        for rate in asked[:: 1 if number % 2 else -1]:
            for model in _MODELS:
                found.setdefault((model, rate), []).append(_step_ms(work / f"{model}.yaml", work / "timed", rate))
                print(
                    f"round {number + 1}: {model}, {rate or 'all'} Mbit/s: {found[model, rate][-1]:.1f} ms", flush=True
                )
    predicted: dict[tuple[str, int | None], float] = {}
    for model in _MODELS:
        experiment = load_experiment(work / f"{model}.yaml", kinds=KINDS)
        layout = planned_layout(experiment, {}, None)
        predicted |= {(model, rate): _planned_ms(layout, experiment, rate) for rate in asked if rate is not None}
    write_section(out, "two-hosts", section(found, predicted, repeats))


def _step_ms(experiment: Path, run: Path, rate: int | None) -> float:
    """Milliseconds of a step on two hosts: the median of the log's lines, without the first."""
    shutil.rmtree(run, ignore_errors=True)
    settings = f"training.max_steps={_STEPS};training.log_every={_LOG};training.keep_best=false"
    command = [sys.executable, "-m", "foundrank.dist.cli", "train", str(experiment), "--run-dir", str(run)]
    with tempfile.TemporaryDirectory() as folder, hosts_on_a_switch(Path(folder)) as hosts:
        for host in hosts if rate is not None else ():
            host.slow_down(rate)
        where = {"MASTER_ADDR": hosts[0].name, "MASTER_PORT": "29500", "WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2"}
        ranks = []
        for rank, host in enumerate(hosts):
            of_rank = {"RANK": str(rank), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "OMP_NUM_THREADS": "1"}
            said = Path(folder) / f"{rank}.log"
            ranks.append(host.start([*command, "--set", settings], os.environ | where | of_rank, said))
        statuses = [rank.wait() for rank in ranks]
        assert statuses == [0, 0], [(Path(folder) / f"{rank}.log").read_text() for rank in range(2)]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return float(np.median([sum(line["step_ms"].values()) for line in lines[1:]]))


def _planned_ms(layout: Layout, experiment: Experiment, rate: int) -> float:
    """What the exchanges of a step take, as `foundrank plan` reckons them."""
    cluster = Cluster(device="cpu", world_size=2, ranks_per_host=1, between_gb_s=rate / 8000)
    return sum(exchange_ms(Fit(cluster, footprint(layout, experiment, cluster.ranks), None)).values())


def section(
    found: dict[tuple[str, int | None], list[float]], predicted: dict[tuple[str, int | None], float], repeats: int
) -> str:
    """Markdown of measured and predicted milliseconds."""
    lines = []
    for (model, rate), measured in sorted(found.items(), key=lambda each: (each[0][0], -(each[0][1] or 1e9))):
        costs = np.array(measured) - np.array(found[model, None])
        told = "| | |" if rate is None else f"| {spread(costs, 0)} | {predicted[model, rate]:.0f} |"
        lines.append(
            f"| {model}, {'not shaped' if rate is None else f'{rate:,} Mbit/s'} | {spread(np.array(measured), 0)} {told}"
        )
    return f"""## Two hosts and a slow cable

    sudo python -m benchmarks.two_hosts --source WORKLOAD --repeats {repeats}

{calibration()} A rank on each of two network namespaces of one machine, one core each; what a host sends is shaped. Milliseconds of a step of 4,096 rows a rank, medians with
the least and the most; what the network costs is compared with the step that is not shaped, round by round.

| | a step, ms | the network's part, ms | as `foundrank plan` reckons, ms |
| --- | ---: | ---: | ---: |
{chr(10).join(lines)}"""


if __name__ == "__main__":
    typer.run(two_hosts)
