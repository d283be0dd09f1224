"""foundrank against popularity and gradient-boosted trees on one data set, over several seeds, into a results file.

    python -m benchmarks.compare simulated
    python -m benchmarks.compare completejourney --source FOLDER
    python -m benchmarks.compare EXPERIMENT --seeds 3 --out docs/results/results.md

What is finished is kept under --work: the same command goes on where it was interrupted.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import typer
from numpy.typing import NDArray

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError, nearest
from foundrank.dist.compare.intervals import REPLICATES, TestRows
from foundrank.dist.run.new_run import check_new_or_same
from foundrank.dist.run.run_folder import EVALUATION, RUN_INFO, read_json, write_json
from foundrank.dist.study.markdown_sections import write_section
from foundrank.model.kinds import KINDS

from . import baselines
from .comparison_table import tables
from .machine import calibration

SIMULATED = "simulated"
IMPORTED = ("completejourney", "movietweetings", "amazon-search")
NAMES = ", ".join((SIMULATED, *IMPORTED))


def compare(
    experiment: Annotated[str, typer.Argument(help=f"experiment YAML or its folder, or one of {NAMES}")],
    seeds: Annotated[int, typer.Option(min=1, help="trainings; an interval needs two")] = 3,
    out: Annotated[Path, typer.Option(help="Markdown file to put the section into")] = Path("docs/results/results.md"),
    work: Annotated[Path, typer.Option(help="folder for data, runs and trees")] = Path("runs/compare"),
    source: Annotated[Path | None, typer.Option(help="folder of the Parquet files to import")] = None,
    processes: Annotated[int, typer.Option("--processes", "-p", min=1, help="ranks of each training")] = 2,
    max_rows: Annotated[int, typer.Option(min=1000, help="rows of a domain the trees see")] = baselines.MAX_ROWS,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a field")] = None,
) -> None:
    """Train and test foundrank and trees on every seed, and write the table."""
    overrides = set_ or []
    path = prepare(experiment, source, work)
    loaded = load_experiment(path, overrides, kinds=KINDS)
    folder = work / loaded.name
    trees, runs, scores = [], [], []
    for seed in range(loaded.seed, loaded.seed + seeds):
        run = folder / f"run-{seed}"
        runs.append(measure_foundrank(path, [*overrides, f"seed={seed}"], processes, run))
        trees.append(measure_trees(loaded, seed, max_rows, folder / f"trees-{seed}.json"))
        scores.append({domain: score_test(loaded, domain, run, processes) for domain in loaded.domains})
    tests = paired_rows([result["predictions"] for result in trees], scores)
    text = tables([result["rows"] for result in trees], [result["rows"] for result in runs], tests)
    section = f"{_heading(loaded, trees, runs, processes, max_rows)}\n\n{text}"
    write_section(out, loaded.name, section)
    print(f"{section}\n\nwrote {out}")


def prepare(experiment: str, source: Path | None, work: Path) -> Path:
    """The experiment's file: the one given, or that of a data set made under ``work`` with its text vectors.

    Raises:
        UserError: neither a file nor a known name, or a data set to import without its source.
    """
    if Path(experiment).exists():
        return Path(experiment)
    if experiment != SIMULATED and experiment not in IMPORTED:
        raise UserError(
            "benchmarks.compare", f"'{experiment}' is no file or data set", nearest(experiment, NAMES.split(", "))
        )
    folder = work / "data" / experiment
    if not folder.exists():
        if experiment == SIMULATED:
            _foundrank("simulate", folder)
        elif source is None:
            raise UserError("benchmarks.compare", f"'{experiment}' is imported from files", "Name them with --source.")
        else:
            _foundrank("import", experiment, source, folder)
    _foundrank("embed", folder)
    return folder


def measure_foundrank(path: Path, overrides: list[str], processes: int, run: Path) -> dict[str, Any]:
    """Trains and evaluates one seed, as far as that is not yet done.

    Returns:
        ``rows`` of ``evaluation.json`` and ``seconds`` of training.

    Raises:
        UserError: the run folder holds another experiment.
    """
    experiment = load_experiment(path, overrides, kinds=KINDS)
    done = check_new_or_same(run, experiment) and "steps" in read_json(run / RUN_INFO, default={})
    if not done:
        arguments = [part for override in overrides for part in ("--set", override)]
        _foundrank("train", path, "--run-dir", run, "--processes", processes, *arguments)
    if not done or not (run / EVALUATION).is_file():
        _foundrank("evaluate", run, "--processes", processes)
    return {"rows": read_json(run / EVALUATION)["rows"], "seconds": read_json(run / RUN_INFO)["seconds"]}


def measure_trees(experiment: Experiment, seed: int, max_rows: int, cache: Path) -> dict[str, Any]:
    """Fits and tests the trees of one seed, unless ``cache`` has them for the same data and settings.

    Returns:
        ``rows`` like those of ``evaluation.json``, ``predictions`` by (domain, task), and ``seconds`` of everything.
    """
    of_data = experiment.model_dump(mode="json", include={"entities", "context", "domains", "text"})
    settings = of_data | {
        "aspects": list(experiment.model.aspects),
        "rates": experiment.model.rates,
        "grid": [list(setting) for setting in baselines.GRID],
        "seed": seed,
        "limits": [max_rows, baselines.GRID_ROWS, baselines.MAX_TREES, baselines.PATIENCE],
    }
    kept, arrays = read_json(cache), cache.with_suffix(".npz")
    if kept is None or kept["settings"] != settings or not arrays.is_file():
        started = time.perf_counter()
        rows, predictions = baselines.run_trees(experiment, seed, max_rows)
        arrays.parent.mkdir(parents=True, exist_ok=True)
        fields = {
            "/".join((*key, name)): values for key, held in predictions.items() for name, values in vars(held).items()
        }
        np.savez(arrays, **fields)
        # The JSON comes last: without it the arrays are made again.
        kept = {"settings": settings, "rows": rows, "seconds": time.perf_counter() - started}
        write_json(cache, kept)
    held: dict[tuple[str, str], dict[str, NDArray]] = {}
    with np.load(arrays) as stored:
        for key in stored.files:
            domain, task, name = key.split("/")
            held.setdefault((domain, task), {})[name] = stored[key]
    return kept | {"predictions": {key: baselines.Predictions(**fields) for key, fields in held.items()}}


def score_test(experiment: Experiment, domain: str, run: Path, processes: int) -> dict[str, NDArray]:
    """Task -> ``[N]`` foundrank's probabilities of a domain's test rows, as its files list them."""
    out = run / "test_scores" / domain
    if not (out / "_SUCCESS").is_file():
        test = experiment.domains[domain].events.test
        _foundrank("score", run, test, out, "--domain", domain, "--processes", processes)
    scores = pq.read_table(sorted(map(str, out.glob("part-*.parquet"))))
    return {task: scores[f"score_{task}"].to_numpy() for task in experiment.domains[domain].tasks}


def paired_rows(
    trees: Sequence[Mapping[tuple[str, str], baselines.Predictions]],
    foundrank: Sequence[Mapping[str, Mapping[str, NDArray]]],
) -> dict[str, dict[str, TestRows]]:
    """Task -> domain -> the test rows as foundrank (first) and the trees (second) see them, a line per seed."""
    tests: dict[str, dict[str, TestRows]] = {}
    for (domain, task), held in trees[0].items():
        tests.setdefault(task, {})[domain] = TestRows(
            held.labels,
            held.users,
            held.cold,
            np.stack([of_seed[domain][task][held.at] for of_seed in foundrank]),
            np.stack([of_seed[domain, task].probabilities for of_seed in trees]),
        )
    return tests


def _heading(experiment: Experiment, trees: list[dict], runs: list[dict], processes: int, max_rows: int) -> str:
    minutes = {name: np.mean([r["seconds"] for r in results]) / 60 for name, results in (("f", runs), ("t", trees))}
    seeds = f"{len(runs)} seed(s) from {experiment.seed}"
    return f"""## {experiment.name}

    python -m benchmarks.compare {shlex.join(sys.argv[1:])}

{calibration()} {seeds}; a training took
{minutes["f"]:.1f} minutes on {processes} ranks, the trees of all domains {minutes["t"]:.1f} minutes.

- foundrank: one model for all domains. Trees: a HistGradientBoostingClassifier per domain and task on the same features and rates with
  out-of-fold target encodings (also of pairs), crosses with the history, text cosines and components; at most {max_rows:,}
  training rows; best of {len(baselines.GRID)} settings and two kinds of folds on validation. Popularity: an item's smoothed positive rate in training.
- ± after a mean is a 95 % interval over seeds (Student's t). "vs trees" is the difference of the means with a 95 % interval over
  both the choice of test users and of seeds: a paired bootstrap, {REPLICATES:,} draws of users, whose rows go together, and of seeds."""


def _foundrank(*arguments: object) -> None:
    command = [sys.executable, "-m", "foundrank.dist.cli", *map(str, arguments)]
    print("$ foundrank " + shlex.join(command[3:]), flush=True)
    code = subprocess.run(command, check=False).returncode
    if code:
        raise typer.Exit(code)


def main() -> None:
    """Entry point: a user's mistake is one paragraph and status 2."""
    try:
        typer.run(compare)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
