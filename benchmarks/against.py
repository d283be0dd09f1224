"""This version of foundrank against another, on the shipped experiments of real data, into a results file.

    python -m benchmarks.against --base OTHER/.venv/bin/foundrank --source ../shared/data --seeds 5

Both versions train on the same events: what this version imports, with the experiment that each version's importer writes (this
one's, where the other has no such importer). Each evaluates its own runs. Then `foundrank compare` of this version predicts with all
of them, and gives paired intervals over users and seeds. The other version's runs must come out of that as it measured them itself,
or the command ends with an error. What is finished is kept under --work: the same command goes on where it was interrupted.
"""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from foundrank.data.errors import UserError, nearest
from foundrank.data.storage.local_writes import write_text
from foundrank.dist.run.run_folder import EVALUATION, read_json
from foundrank.dist.study.directions import interval
from foundrank.dist.study.markdown_sections import write_section

from .jobs import Out, Work
from .machine import calibration

OURS = str(Path(sys.executable).with_name("foundrank"))
BASE, NOW, BASE_FILE = "base", "now", "base.yaml"
UNSEEN = ("--unseen-items", "0.1")
DATA: dict[str, tuple[str, tuple[str, ...]]] = {
    "movietweetings": ("movietweetings", ()),
    "amazon-search": ("amazon_cellphones_search", ()),
    "completejourney": ("completejourney", ()),
    "amazon-office": ("amazon_office", UNSEEN),
    "amazon-beauty": ("amazon_beauty", UNSEEN),
}
"""Importer -> its folder under --source, and what it is asked for: where the next item is sought, new items to find."""
SLICES = ("all", "warm_items", "cold_items")
METRICS = {"auc": "AUC", "logloss": "log loss", "percentile": "rank percentile", "ndcg@10": "NDCG@10"}
_SAME = 1e-3  # in AUC or NDCG, between what two versions measure of one run


def against(
    base: Annotated[Path, typer.Option(help="the other version's program: the foundrank in its environment")],
    source: Annotated[Path, typer.Option(help="folder with all data sets")],
    only: Annotated[str, typer.Option(help="data sets, comma-separated  [default: all]")] = "",
    seeds: Annotated[int, typer.Option(min=2, help="trainings of each version")] = 5,
    work: Work = Path("runs/against"),
    out: Out = Path("docs/results/results.md"),
    processes: Annotated[int, typer.Option("--processes", "-p", min=1, help="ranks of each training")] = 1,
) -> None:
    """Trains what is not done, compares, and writes the section."""
    names = [name.strip() for name in only.split(",") if name.strip()] or list(DATA)
    for name in names:
        if name not in DATA:
            raise UserError("--only", f"'{name}' is not one of the data sets", nearest(name, DATA))
    compared, calibrations = {}, {}
    for name in names:
        folder = prepare(name, source, base, work)
        runs: dict[str, list[Path]] = {BASE: [], NOW: []}
        for seed in range(1, seeds + 1):
            for version, program, file in ((BASE, str(base), BASE_FILE), (NOW, OURS, "experiment.yaml")):
                run = (work / "runs" / f"{version}.{name}.{seed}").absolute()
                measure(program, folder / file, seed, run, processes)
                runs[version].append(run)
        result = work / f"{name}.json"
        arms = [f"{version}={','.join(map(str, of_version))}" for version, of_version in runs.items()]
        _run(OURS, "compare", *arms, "--out", result, "-p", processes)
        compared[name] = json.loads(result.read_text(encoding="utf-8"))["rows"]
        check_read_alike(compared[name], runs[BASE])
        calibrations[name] = {version: calibration_of(of_version) for version, of_version in runs.items()}
        write_section(out, "against", section(compared, calibrations, seeds))
    print(section(compared, calibrations, seeds) + f"\n\nwrote {out}")


def prepare(name: str, source: Path, base: Path, work: Path) -> Path:
    """The folder of a data set, with both versions' experiments and all text vectors; made once."""
    folder, (of_source, options) = work / "data" / name, DATA[name]
    if not folder.exists():
        _run(OURS, "import", name, source / of_source, folder, *options)
    if not (folder / BASE_FILE).exists():
        theirs = work / "data" / f"{name}-base"
        known = theirs.exists() or _knows(base, name)
        if known and not theirs.exists():
            _run(str(base), "import", name, source / of_source, theirs)
        written = (theirs if known else folder) / "experiment.yaml"
        text = written.read_text(encoding="utf-8")
        write_text(folder / BASE_FILE, text)
    for program, file, store in ((OURS, "experiment.yaml", "text_store"), (str(base), BASE_FILE, "base_store")):
        if not (folder / store).exists():
            _run(program, "embed", folder / file, "--set", f"text.store={store}")
    return folder


def measure(program: str, experiment: Path, seed: int, run: Path, processes: int) -> None:
    """Trains and evaluates one seed with one version, as far as that is not done."""
    if (run / EVALUATION).is_file():
        return
    store = "base_store" if experiment.name == BASE_FILE else "text_store"
    started = time.perf_counter()
    settings = f"seed={seed}; text.store={store}"
    _run(program, "train", experiment, "--run-dir", run, "--set", settings, "-p", processes)
    _run(program, "evaluate", run, "-p", processes)
    print(f"{run.name}: {time.perf_counter() - started:.0f} s", flush=True)


def check_read_alike(rows: Sequence[Mapping[str, Any]], runs: Sequence[Path]) -> None:
    """Makes sure that this version reads the other's runs as that one measured them.

    Args:
        rows: of `foundrank compare`, whose first arm the runs are.
        runs: of the other version, each with its evaluation.json.

    Raises:
        UserError: a mean over the runs differs.
    """
    of_runs = [read_json(run / EVALUATION) for run in runs]
    for row in rows:
        if row["slice"] != "all" or row["metric"] not in ("auc", "ndcg@10"):
            continue
        kind = "next_item" if row["task"] == "next_item" else "rows"
        found = [
            line[row["metric"]]
            for of_run in of_runs
            for line in of_run.get(kind) or []
            if (line["domain"], line["slice"]) == (row["domain"], "all")
            and line.get("task", "next_item") == row["task"]
        ]
        if len(found) == len(runs) and abs(np.mean(found) - row["first"]) > _SAME:
            raise UserError(
                f"{row['domain']}, {row['task']}, {row['metric']}",
                f"was {np.mean(found):.4f} in the other version's own evaluation and is {row['first']:.4f} in this one's",
                "Old runs must keep their meaning: find what reads them otherwise.",
            )


def calibration_of(runs: Sequence[Path]) -> dict[str, float]:
    """Task -> predicted over observed, the mean over runs and domains."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for row in read_json(run / EVALUATION).get("rows") or []:
            if row["slice"] == "all" and row.get("calibration") is not None:
                found.setdefault(row["task"], []).append(row["calibration"])
    return {task: float(np.mean(values)) for task, values in found.items()}


def section(
    compared: Mapping[str, Sequence[Mapping[str, Any]]],
    calibrations: Mapping[str, Mapping[str, Mapping[str, float]]],
    seeds: int,
) -> str:
    """Markdown: per data set and slice the change in each metric, and the mean of AUC over data sets.

    Args:
        compared: data set -> rows of `foundrank compare`.
        calibrations: data set -> version -> task -> `calibration_of`; best at 1.
        seeds: of each version.
    """
    lines = ["| data set | rows | metric | before | now | change |", "| --- | --- | --- | ---: | ---: | ---: |"]
    changes: dict[str, list[tuple[float, float, float]]] = {}
    for name, rows in compared.items():
        for part in SLICES:
            for metric, title in METRICS.items():
                row = overall(rows, part, metric)
                if row is None:
                    continue
                gap = _gap(row)
                words = part.replace("_", " ")
                lines.append(
                    f"| {name} | {words} | {title} | {row['first']:.4f} | {row['other']:.4f} | {interval(gap)} |"
                )
                if metric == "auc":
                    changes.setdefault(part, []).append(gap)
        for task, before in calibrations.get(name, {}).get(BASE, {}).items():
            lines.append(
                f"| {name} | all | calibration of {task} | {before:.3f} | {calibrations[name][NOW][task]:.3f} | |"
            )
    for part, gaps in changes.items():
        lines.append(f"| **mean of {len(gaps)}** | {part.replace('_', ' ')} | AUC | | | {interval(mean_of(gaps))} |")
    command = f"    python -m benchmarks.against {shlex.join(sys.argv[1:])}"
    told = f"""{command}

{calibration()} The shipped experiments under this version and an earlier one, {seeds} seeds each, on the same events. Numbers are means over
domains, tasks and seeds; *change* has its 95 % interval over test users and seeds, paired. That of the mean over data sets
treats these as independent."""
    return "## Against an earlier version\n\n" + told + "\n\n" + "\n".join(lines)


def overall(rows: Sequence[Mapping[str, Any]], part: str, metric: str) -> Mapping[str, Any] | None:
    """The row of a slice and metric that is a mean over the most: domains and tasks, else domains, else the only one."""
    found = [row for row in rows if (row["slice"], row["metric"]) == (part, metric)]
    return max(found, key=lambda row: (row["task"] == "mean", row["domain"] == "mean"), default=None)


def mean_of(gaps: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """The mean of independent differences, each with its interval: half widths add in squares."""
    means, lows, highs = np.array(gaps, float).T
    mean = means.mean()
    low, high = (float(np.sqrt(((side - means) ** 2).sum()) / len(gaps)) for side in (lows, highs))
    return float(mean), float(mean - low), float(mean + high)


def _gap(row: Mapping[str, Any]) -> tuple[float, float, float]:
    low, high = (float("nan") if row[side] is None else row[side] for side in ("low", "high"))
    return row["difference"], low, high


def _knows(program: Path, name: str) -> bool:
    told = subprocess.run([program, "import", "--help"], capture_output=True, text=True, check=False)
    return name in "".join(told.stdout.split())  # help is wrapped at hyphens, too


def _run(program: str, *arguments: object) -> None:
    command = [program, *map(str, arguments)]
    print("$ " + shlex.join(command), flush=True)
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        raise typer.Exit(done.returncode)


def main() -> None:
    """Entry point: a user's mistake is one paragraph and status 2."""
    try:
        typer.run(against)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
