"""Models of several widths from one training against one training for each width, into docs/results/results.md.

    python -m benchmarks.widths --data amazon-office --source ../shared/data/amazon_office --seeds 3

The imported experiment with a width of 64, of 256, and of 256 with `model.next_item.widths: [16, 64, 256]`. What is done in WORK is kept; run again, it goes on.
"""

import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from foundrank.dist.study.markdown_sections import write_section

from .jobs import Out, Source, Work, assigned, compared, in_turns, run_foundrank
from .machine import calibration

NARROW, WIDE, WIDTHS = 64, 256, (16, 64, 256)
ARMS = {
    "64 alone": (NARROW, ()),
    "256 alone": (WIDE, ()),
    "nested": (WIDE, (f"model.next_item.widths={list(WIDTHS)}",)),
}
METRIC = "ndcg@10"
TIMED, ROUNDS, STEPS = ("256 alone", "nested"), 5, 60


def widths(
    source: Source,
    data: Annotated[str, typer.Option(help="as `foundrank import` calls it")] = "amazon-office",
    seeds: Annotated[int, typer.Option(min=1, help="of each arm")] = 3,
    at_a_time: Annotated[int, typer.Option(min=1, help="trainings")] = 2,
    work: Work = Path("runs/widths"),
    out: Out = Path("docs/results/results.md"),
    kept: Annotated[Path, typer.Option(help="JSON file for the figures")] = Path("docs/results/benchmarks/widths.json"),
) -> None:
    """Measures and writes the section; of other data sets, as the file of figures has it."""
    folder, numbers = work / data, range(1, seeds + 1)
    if not (folder / "data" / "done").is_file():
        shutil.rmtree(folder / "data", ignore_errors=True)
        run_foundrank("import", data, source, folder / "data")
        run_foundrank("embed", folder / "data")
        (folder / "data" / "done").touch()
    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(lambda job: _trained(folder, *job), [(arm, seed) for seed in numbers for arm in ARMS]))
    found = {
        "seeds": seeds,
        "machine": calibration(),
        "at": {
            "64 alone": _mean(folder, "64 alone", numbers, None),
            "256 alone": _mean(folder, "256 alone", numbers, None),
            **{f"nested, {width}": _mean(folder, "nested", numbers, width) for width in WIDTHS},
        },
        "compared": {str(width): _compared(folder, f"{width} alone", numbers, width) for width in WIDTHS[1:]},
        "step_ms": in_turns({arm: partial(_step, folder, arm) for arm in TIMED}, ROUNDS),
    }
    written = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    written[data] = found
    kept.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    write_section(out, "nested widths", section(written))


def _run(folder: Path, arm: str, seed: int) -> Path:
    return folder / f"{arm.replace(' ', '_')}-{seed}"


def _trained(folder: Path, arm: str, seed: int) -> None:
    run = _run(folder, arm, seed)
    if not (run / "run.json").is_file() or "parameters" not in json.loads((run / "run.json").read_text("utf-8")):
        _train(folder, run, arm, seed)


def _train(folder: Path, run: Path, arm: str, seed: int, more: Sequence[str] = ()) -> None:
    width, of_arm = ARMS[arm]
    changes = (f"seed={seed}", f"model.width={width}", f"model.embedding_dim={width}", *of_arm, *more)
    run_foundrank("train", folder / "data", "--run-dir", run, "-p", 1, *assigned(changes), threads=1)


def _mean(folder: Path, arm: str, seeds: Sequence[int], width: int | None) -> dict[str, Any]:
    """Of all rows of the test split, over seeds."""
    found = []
    for seed in seeds:
        kept = folder / "evaluations" / f"{arm.replace(' ', '_')}-{seed}-{width}.json"
        if not kept.is_file():
            asked = () if width is None else ("--width", width)
            run_foundrank("evaluate", _run(folder, arm, seed), "-p", 1, *asked, threads=1)
            kept.parent.mkdir(exist_ok=True)
            shutil.copy(_run(folder, arm, seed) / "evaluation.json", kept)
        rows = json.loads(kept.read_text(encoding="utf-8"))["next_item"]
        found.append(next(row for row in rows if row["slice"] == "all"))
    return {metric: [row[metric] for row in found] for metric in (METRIC, "hr@10")}


def _compared(folder: Path, arm: str, seeds: Sequence[int], width: int) -> dict[str, Any]:
    """The nested ones at a width against those that have it alone, as `foundrank compare` says."""
    file = folder / f"nested_against_{width}.json"
    arms = {name.replace(" ", "_"): [_run(folder, name, seed) for seed in seeds] for name in (arm, "nested")}
    return next(row for row in compared(file, arms, "--width", width, threads=1) if row["metric"] == METRIC)


def _step(folder: Path, arm: str) -> float:
    """Milliseconds of a step, the median of a short training."""
    run = folder / "timed"
    shutil.rmtree(run, ignore_errors=True)
    _train(folder, run, arm, 1, (f"training.max_steps={STEPS}", "training.keep_best=false", "training.log_every=5"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return statistics.median(sum(line["step_ms"].values()) for line in lines if "step_ms" in line)


def section(written: Mapping[str, Any]) -> str:
    """Markdown of the figures."""
    lines = [
        "## One training for several widths\n",
        "    python -m benchmarks.widths --data amazon-office --source ../shared/data/amazon_office\n",
        f"`model.next_item.widths: {list(WIDTHS)}`, and trainings of one width, which embeddings and states have. NDCG@10 on the test split, means over seeds; differences with 95 %",
        f"intervals over users and seeds. Time: of a step, median of {ROUNDS} rounds in turns. {next(iter(written.values()))['machine']}\n",
        "| | seeds | width 64 alone | 64 of nested | share | difference | width 256 alone | 256 of nested | difference | 16 of nested | step, nested / 256 alone |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    for data, of in written.items():
        mean = {name: statistics.fmean(values[METRIC]) for name, values in of["at"].items()}
        difference = {
            width: f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
            for width, row in of["compared"].items()
        }
        rounds = [nested / alone for alone, nested in zip(*(of["step_ms"][arm] for arm in TIMED), strict=True)]
        lines.append(
            f"| {data} | {of['seeds']} | {mean['64 alone']:.4f} | {mean['nested, 64']:.4f} | {mean['nested, 64'] / mean['64 alone']:.0%} | {difference['64']} | {mean['256 alone']:.4f} | "
            f"{mean['nested, 256']:.4f} | {difference['256']} | {mean['nested, 16']:.4f} | {statistics.median(rounds):.2f} ({min(rounds):.2f}–{max(rounds):.2f}) |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(widths)
