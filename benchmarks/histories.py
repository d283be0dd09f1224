"""Encoders of histories inside the ranking model, against the mean of past items, into docs/results/results.md.

    python -m benchmarks.histories --source ../shared/data

Arms, learning rates and intervals are the cold-start study's, on its data. What is trained is kept under --work: run again, it goes on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from foundrank.data.config.load import load_experiment
from foundrank.dist.run.run_folder import read_json
from foundrank.dist.study.arms import DATA_SETS, RATES, Arm, DataSet
from foundrank.dist.study.datasets import prepare_data
from foundrank.dist.study.directions import interval
from foundrank.dist.study.kept import folder
from foundrank.dist.study.markdown_sections import write_section
from foundrank.dist.study.results import Chosen, Result, cold_items, difference, read_results, warm_items
from foundrank.dist.study.runs import run_arms
from foundrank.model.kinds import KINDS

from .jobs import Out, Work, run_foundrank
from .machine import calibration

DATA = ("simulated", "completejourney")
MEAN = "mean"
ARMS = tuple(Arm(name, (f"model.history.encoder={name}",)) for name in (MEAN, "din", "sasrec", "hstu"))
TIMED = tuple(Arm(f"{arm.name}, times", (*arm.settings, "model.history.time_bias=true")) for arm in ARMS[1:])
"""Where the data says when past items were."""
ROWS: Mapping[str, Chosen | None] = {
    "all": None,
    "cold items": cold_items,
    "warm items": warm_items,
}


def histories(
    source: Annotated[Path, typer.Option(help="folder with all data sets")],
    seeds: Annotated[int, typer.Option(min=1, help="of each arm")] = 3,
    work: Work = Path("runs/histories"),
    out: Out = Path("docs/results/results.md"),
    processes: Annotated[int, typer.Option("--processes", "-p", min=1, help="trainings at a time")] = 2,
) -> None:
    """Trains what is not done, and writes the section."""
    tables = []
    for data in (each for each in DATA_SETS if each.name in DATA):
        path = prepare_data(data, source, work / "data", full=False)
        run_foundrank("embed", path)
        history = load_experiment(path, kinds=KINDS).entities.user.history
        arms = (*ARMS, *TIMED) if history is not None and history.times else ARMS
        run_arms(data, arms, path, work, seeds, processes)
        results = read_results(data, arms, work)
        seconds = {name: _seconds(work, data, name, result, seeds) for name, result in results.items()}
        tables.append(table(data.name, results, seconds))
    write_section(out, "histories", "\n\n".join([_heading(seeds), *tables]))


def _seconds(work: Path, data: DataSet, arm: str, result: Result, seeds: int) -> float:
    """The median time of an arm's trainings at the rate that is tested."""
    runs = [folder(data, work, arm, seed, result.rate) / "run" / "run.json" for seed in range(1, seeds + 1)]
    return float(np.median([read_json(run)["seconds"] for run in runs if run.is_file()]))


def table(data: str, results: Mapping[str, Result], seconds: Mapping[str, float]) -> str:
    """Markdown of one data set.

    Args:
        data: its name.
        results: arm -> result.
        seconds: arm -> time of a training.
    """
    mean = results[MEAN]
    lines = [
        f"### {data}\n",
        f"| history | seeds | rate | seconds | AUC | {' | '.join(f'{name}: lead over the mean' for name in ROWS)} |",
        f"| --- | ---: | ---: | ---: | ---: |{' ---: |' * len(ROWS)}",
    ]
    for name, result in results.items():
        leads = ["" if name == MEAN else interval(difference(result, mean, rows)) for rows in ROWS.values()]
        auc = f"{result.mean_auc()[0]:.4f}"
        lines.append(
            f"| {name} | {result.seeds} | {result.rate:g} | {seconds[name]:.0f} | {auc} | {' | '.join(leads)} |"
        )
    return "\n".join(lines)


def _heading(seeds: int) -> str:
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    return f"""## Encoders of histories in the ranking model

    python -m benchmarks.histories --source ../shared/data

The full model on the cold-start study's data ([study.md](study.md)), its history encoded in several ways. AUC is the mean over domains,
tasks and seeds (at most {seeds}) of test rows; every arm tried learning rates times {rates} on validation with one seed. Leads have 95 % intervals over
test users and seeds, paired. Seconds are those of a training on one core, two at a time. {calibration()}"""


if __name__ == "__main__":
    typer.run(histories)
