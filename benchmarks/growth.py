"""Time and memory of training and scoring against rows, processes, width and domains, into docs/results/performance.md and a picture.

    python -m benchmarks.growth --source FOLDER

FOLDER is what the workload generator wrote with 2,000,000 rows. Larger inputs are its files over and over, linked under
other names: rows grow, vocabularies stay. Ten times the domains are the same files, each a domain of its own. What was
measured is kept as JSON in docs/results/benchmarks/, with a plot.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from matplotlib.figure import Figure

from foundrank.dist.study.markdown_sections import write_section

from .jobs import Out, Source, Work, run_watched, scored_rate, trained_rate
from .machine import calibration
from .speed import FAST, write_scoring_input
from .workload_experiment import write_workload

ROWS = ((1_000_000, (1, 2, 4)), (20_000_000, (1, 2, 4)), (200_000_000, (2,)))  # and on how many processes
MOST_STEPS = {1_000_000: 1_000, 20_000_000: 500, 200_000_000: 2_000}
WIDTHS = (16, 32, 64, 128)
RANKS = (1, 2, 4)
DOMAINS = (7, 70)
WORKLOAD = 2_000_000  # rows
STEPS, WIDE = 60, 64
LINES = {1: ":", 2: "-", 4: "--"}  # of so many ranks
BLUE, ORANGE = "#1a7fc9", "#d97706"

Point = dict[str, float]
Figures = dict[str, dict[str, Any]]
"""What was measured of each part: the machine, in words, and its points."""


def growth(
    source: Source,
    work: Work = Path("runs/speed"),
    out: Out = Path("docs/results/performance.md"),
    parts: Annotated[
        str, typer.Option(help="what to measure, comma-separated; the rest is kept")
    ] = "rows,width,ranks,domains",
) -> None:
    """Measures and writes the section."""
    work = work.absolute()
    write_workload(source, work)
    write_scoring_input(source, work / "input")
    folder = out.parent / "benchmarks"
    folder.mkdir(exist_ok=True)
    kept = folder / "growth.json"
    found: Figures = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for part in parts.split(","):
        points = []
        for figures in _PARTS[part](work):
            points.append(figures)
            print(part, figures, flush=True)
        found[part] = {"machine": calibration(), "points": points}
        kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    plot(found).savefig(folder / "growth.png", dpi=110)
    write_section(out, "growth", section(found))


def _rows(work: Path) -> Iterator[Point]:
    for rows, of_ranks in ROWS:
        for ranks in of_ranks:
            yield {"rows": rows, "ranks": ranks} | _of_rows(work, rows, ranks)


def _width(work: Path) -> Iterator[Point]:
    for width in WIDTHS:
        yield {"width": width} | _train_steps(work, work / "plain.yaml", f"model.embedding_dim={width}", 2)


def _ranks(work: Path) -> Iterator[Point]:
    for ranks in RANKS:
        yield {"ranks": ranks} | _train_steps(work, work / "plain.yaml", f"model.embedding_dim={WIDE}", ranks)


def _domains(work: Path) -> Iterator[Point]:
    for domains in DOMAINS:
        split_domains(work, domains)
        yield {"domains": domains} | _train_steps(work, work / "domains" / "full.yaml", "model.embedding_dim=16", 2)


_PARTS = {"rows": _rows, "width": _width, "ranks": _ranks, "domains": _domains}


def _of_rows(work: Path, rows: int, ranks: int) -> Point:
    """Counts ``rows`` rows, trains on them for an epoch or as many steps as there may be, and scores as many."""
    folder = work / f"rows-{rows}"
    shutil.rmtree(folder, ignore_errors=True)
    for domain in sorted((work / "train").iterdir()):
        _link(domain, folder / "train" / domain.name, rows)
    (folder / "eval").symlink_to(work / "eval")
    shutil.copy(work / "plain.yaml", folder / "plain.yaml")
    steps = f"training.max_steps={MOST_STEPS[rows]};training.log_every=20"
    figures = _train(folder / "plain.yaml", folder / "run", steps, ranks)
    _link(work / "input", folder / "input", rows)
    said, memory = run_watched("score", folder / "run", folder / "input", folder / "scores", "-p", ranks)
    shutil.rmtree(folder)
    return figures | {
        "scoring_samples_per_s": scored_rate(said),
        "scoring_mb": memory[0],
        "scoring_least_mb": memory[ranks - 1],
    }


def _train_steps(work: Path, experiment: Path, setting: str, ranks: int) -> Point:
    """Trains a few steps with one setting changed."""
    run = work / "timed"
    shutil.rmtree(run, ignore_errors=True)
    return _train(experiment, run, f"{setting};training.max_steps={STEPS};training.log_every=10", ranks)


def split_domains(work: Path, domains: int) -> None:
    """Writes ``domains/full.yaml``: the workload's domains, each with its first ten files, or with each file a domain."""
    folder = work / "domains"
    shutil.rmtree(folder, ignore_errors=True)
    experiment = yaml.safe_load((work / "full.yaml").read_text(encoding="utf-8"))
    (folder / "eval").parent.mkdir()
    (folder / "eval").symlink_to(work / "eval")
    split = {}
    for name, domain in experiment["domains"].items():
        for number, file in enumerate(sorted((work / "train" / name).glob("*.parquet"))[:10]):
            part = name if domains == len(experiment["domains"]) else f"{name}_{number}"
            target = folder / "train" / part / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, target)
            split[part] = domain | {"events": domain["events"] | {"train": f"train/{part}/*.parquet"}}
    assert len(split) == domains, f"{len(split)} domains can be made of the workload, not {domains}"
    (folder / "full.yaml").write_text(
        yaml.safe_dump(experiment | {"domains": split}, sort_keys=False), encoding="utf-8"
    )


def _train(experiment: Path, run: Path, settings: str, ranks: int) -> Point:
    options = ["-p", ranks, "--set", f"training.precision=auto;{settings}"]
    _, memory = run_watched("train", experiment, "--run-dir", run, *options)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "samples_per_s": trained_rate(run),
        "peak_mb": memory[0],
        "least_peak_mb": memory[ranks - 1],
        "steps": lines[-1]["step"],
        "first_mb": lines[1]["memory_mb"],
        "last_mb": lines[-1]["memory_mb"],
        "counting_s": json.loads((run / "run.json").read_text(encoding="utf-8"))["startup_s"]["checks"],
    }


def _link(source: Path, target: Path, rows: int) -> None:
    """Links the workload's files in one folder, as often as makes ``rows`` of it all."""
    target.mkdir(parents=True)
    files = sorted(source.glob("*.parquet"))
    for number in range(len(files) * rows // WORKLOAD):
        os.link(files[number % len(files)], target / f"part-{number:05d}.parquet")


def plot(found: Figures) -> Figure:
    """Rate and memory against each of the four."""
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    for column, name in enumerate(_PARTS):
        points = found[name]["points"]
        x = sorted({point[name] for point in points})
        rate, memory = figure.add_subplot(2, 4, column + 1), figure.add_subplot(2, 4, column + 5)
        for ranks, style in LINES.items() if name == "rows" else ((None, "-"),):
            of = [point for point in points if ranks is None or point["ranks"] == ranks]
            at = [point[name] for point in of]
            on = f"{ranks} rank{'s' * (ranks != 1)}"
            rate.plot(at, [point["samples_per_s"] for point in of], f"o{style}", color=BLUE, label=f"training, {on}")
            memory.plot(at, [point["peak_mb"] for point in of], f"o{style}", color=BLUE)
            if ranks is not None:
                scoring = [point["scoring_samples_per_s"] for point in of]
                rate.plot(at, scoring, f"s{style}", color=ORANGE, label=f"scoring, {on}")
                memory.plot(at, [point["scoring_mb"] for point in of], f"s{style}", color=ORANGE)
        if name == "rows":
            rate.legend(frameon=False, fontsize=6, ncol=2, loc="lower center")
        labels = {
            "rows": "rows",
            "width": "embedding width",
            "ranks": f"ranks, width {WIDE}",
            "domains": "domains, full model",
        }
        for axes, what in ((rate, "samples/s"), (memory, "peak MB of a rank")):
            axes.set(xscale="log", xlabel=labels[name], ylabel=what, ylim=(0, 1.1 * axes.dataLim.y1))
            axes.set_xticks(x, [f"{value / 1e6:.0f} M" if value >= 1e6 else f"{value:.0f}" for value in x])
            axes.margins(x=0.1)
            axes.minorticks_off()
            axes.grid(alpha=0.3)
    return figure


def section(found: Figures) -> str:
    """The three tables, as Markdown."""
    rows = [
        f"| {p['rows']:,.0f} | {p['ranks']} | {p['counting_s']:.1f} | {p['steps']:,.0f} | {p['samples_per_s']:,.0f} "
        f"| {p['least_peak_mb']:,.0f}–{p['peak_mb']:,.0f} | {p['first_mb']:,.0f} | {p['last_mb']:,.0f} "
        f"| {p['scoring_samples_per_s']:,.0f} | {p['scoring_least_mb']:,.0f}–{p['scoring_mb']:,.0f} |"
        for p in found["rows"]["points"]
    ]
    others = [
        f"| {name} {p[name]:,.0f} | {p['samples_per_s']:,.0f} | {p['peak_mb']:,.0f} |"
        for name in ("width", "ranks", "domains")
        for p in found[name]["points"]
    ]
    return f"""## Growth

    python -m benchmarks.growth --source WORKLOAD

{found["rows"]["machine"]} Plain MMoE, {FAST}; for domains the full model. Memory is resident, pages that ranks share included, tables too; of rows it is
that of the smallest and the largest rank. All rows are checked, counted and scored; training takes an epoch, or as many steps as are told.

| rows | ranks | checks and counting, s | steps | training, rows/s | peak MB | mean of ranks: MB at the start | at the end | scoring, rows/s | peak MB |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{chr(10).join(rows)}

{found["width"]["machine"]}

| {STEPS} steps; width on 2 ranks, ranks at width {WIDE} | rows/s | peak MB |
| --- | ---: | ---: |
{chr(10).join(others)}

![Rate and memory against rows, width, ranks and domains](benchmarks/growth.png)"""


if __name__ == "__main__":
    typer.run(growth)
