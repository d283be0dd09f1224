"""How fast the standard workload trains with managed ids beside a vocabulary, and what an id takes; into docs/results/performance.md.

    python -m benchmarks.managed_rate --source STANDARD_WORKLOAD

All seventeen tables of ids, on two ranks, rounds in turn; as many managed rows as there are ids.
"""

import json
import shutil
import statistics
from pathlib import Path
from typing import Annotated

import typer

from foundrank.data.counting.statistics import Statistics
from foundrank.data.vocabulary.managed import ManagedIds
from foundrank.data.vocabulary.mapped import COUNTS, KEYS, ROWS
from foundrank.dist.study.markdown_sections import write_section

from .jobs import RANKS, Repeats, Source, Work, run_foundrank, trained_rate
from .machine import calibration
from .workload_experiment import experiment_of, write_workload

WAYS = ("vocab", "managed")


def managed_rate(
    source: Source,
    repeats: Repeats = 7,
    steps: Annotated[int, typer.Option(min=20, help="of a training; the first tenth does not count")] = 160,
    work: Work = Path("runs/managed_rate"),
    out: Annotated[Path, typer.Option(help="Markdown file to put the section into")] = Path(
        "docs/results/performance.md"
    ),
) -> None:
    """Measures and writes the section."""
    work = work.absolute()
    write_workload(source, work)
    context = experiment_of(source, 1, {})["context"]
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    tables: dict[str, int] = {}
    for number in range(repeats):
        for way in WAYS[:: 1 if number % 2 else -1] if tables else WAYS:
            run = work / way
            shutil.rmtree(run, ignore_errors=True)
            places = {f"id_{name}": f"entities.{name}" for name in ("user", "item")}
            places |= {
                f"feature_{name}": f"context.{name}"
                for name, of in context.items()
                if of["kind"] in ("categorical", "list")
            }
            changes = [f"training.max_steps={steps}", f"training.log_every={steps // 10}"]
            for table, place in places.items() if way == "managed" else ():
                changes += [f"{place}.encoding=managed", f"{place}.rows={tables[table]}"]
            run_foundrank(
                "train", work / "plain.yaml", "--run-dir", run, "-p", RANKS, "--set", ";".join(changes), threads=1
            )
            if not tables:
                found = json.loads((run / "run.json").read_text(encoding="utf-8"))["tables"]
                tables = {name: of["rows"] - 1 for name, of in found.items()}
            rates[way].append(trained_rate(run))
            print(f"round {number + 1}: {way}: {rates[way][-1]:,.0f} rows/s", flush=True)
    write_section(out, "managed rate", section(rates, work / "managed"))


def section(rates: dict[str, list[float]], run: Path) -> str:
    """Markdown of the figures."""
    ratios = [managed / vocab for vocab, managed in zip(*(rates[way] for way in WAYS), strict=True)]
    folder = run / "vocabulary"
    every = [table for table in Statistics.load(folder).tables.values() if isinstance(table, ManagedIds)]
    ids = sum(len(table.keys) for table in every)
    mapped = sum((folder / name).stat().st_size for name in (KEYS, ROWS, COUNTS))
    kept = sum((folder / f"{name}.parquet").stat().st_size for name in Statistics.load(folder).tables)
    return "\n".join(
        [
            "## Managed ids\n",
            "    python -m benchmarks.managed_rate --source STANDARD_WORKLOAD\n",
            f"The standard workload (`plain.yaml`), two ranks, {len(ratios)} rounds in turn, as many managed rows as there are ids: {ids:,} in {len(every)} tables. Training rate, managed ÷ vocabulary:",
            f"{statistics.median(ratios):.2f} in the median, single rounds {min(ratios):.2f} to {max(ratios):.2f}. In a step the two do the same. {calibration()}",
            f"An id takes {mapped / ids:.0f} bytes of memory on each machine while it is looked up, shared by its ranks; and {kept / ids:.0f} bytes on disk for what the next increment must know.",
        ]
    )


if __name__ == "__main__":
    typer.run(managed_rate)
