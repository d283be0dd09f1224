"""What rows are worth that ids have to themselves, where there are too few: into docs/results/results.md.

    python -m benchmarks.managed --data ../shared/data --seeds 5

On each data set, users and items get half as many rows as there are ids in training: by `encoding: hash`, where ids share them, and by `encoding: managed`,
where the more frequent half has them. And as many rows as there are ids, by `managed` and `vocab`. What is done in WORK is kept; run again, it goes on.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

from foundrank.dist.study.markdown_sections import write_section

from .jobs import Out, Work, assigned, compared, run_foundrank

AT_A_TIME = 2
SETS = ("simulated", "movietweetings", "completejourney")
TEXTS = "text.vectors=random"
ARMS = ("vocab", "managed", "hash, half", "managed, half")
PAIRS = (("vocab", "managed"), ("hash, half", "managed, half"))


def managed(
    data: Annotated[Path, typer.Option(help="folder with the data sets' folders")] = Path("../shared/data"),
    seeds: Annotated[int, typer.Option(min=1, help="of each arm")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="data sets  [default: all]")] = None,
    work: Work = Path("runs/managed"),
    out: Out = Path("docs/results/results.md"),
    kept: Annotated[Path, typer.Option(help="JSON file for the figures")] = Path(
        "docs/results/benchmarks/managed.json"
    ),
) -> None:
    """Measures and writes the section; of data sets that are left out, as the file of figures has it."""
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    for name in only or SETS:
        found[name] = _measure(name, data, work / name, range(1, seeds + 1))
    kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_section(out, "managed ids", section(found))


def _measure(name: str, source: Path, work: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Rows of the tables, and what `foundrank compare` says of each pair."""
    data = work / "data"
    if not (data / "done").is_file():
        shutil.rmtree(data, ignore_errors=True)
        if name == "simulated":
            run_foundrank("simulate", data)
        else:
            run_foundrank("import", name, source / name, data)
        run_foundrank("embed", data, "--set", TEXTS)
        (data / "done").touch()
    first = _trained(data, work, "vocab", seeds[0], {})
    tables = json.loads((first / "run.json").read_text(encoding="utf-8"))["tables"]
    ids = {entity: tables[f"id_{entity}"]["rows"] - 1 for entity in ("user", "item")}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        jobs = [(arm, seed) for seed in seeds for arm in ARMS]
        list(pool.map(lambda job: _trained(data, work, *job, ids), jobs))
    found = {}
    for pair in PAIRS:
        file = work / f"{_folder(pair[1])}.json"
        arms = {arm: [work / f"{_folder(arm)}-{seed}" for seed in seeds] for arm in pair}
        found[pair[1]] = [row for row in compared(file, arms) if row["metric"] == "auc"]
    return {"ids": ids, "seeds": len(seeds), "compared": found}


def _folder(arm: str) -> str:
    return arm.replace(", ", "_")


def _trained(data: Path, work: Path, arm: str, seed: int, ids: Mapping[str, int]) -> Path:
    run = work / f"{_folder(arm)}-{seed}"
    if (run / "evaluation.json").is_file():
        return run
    way, _, half = arm.partition(", ")
    changes = [TEXTS, f"seed={seed}"]
    for entity, number in ids.items() if way != "vocab" else ():
        rows = {"managed": "rows", "hash": "buckets"}[way]
        changes += [f"entities.{entity}.encoding={way}", f"entities.{entity}.{rows}={number // 2 if half else number}"]
    run_foundrank("train", data, "--run-dir", run, "-p", 1, *assigned(changes), threads=1)
    run_foundrank("evaluate", run, "-p", 1, threads=1)
    return run


def section(found: Mapping[str, Any]) -> str:
    """Markdown of the figures."""
    lines = [
        "## Managed ids against hashing and a vocabulary\n",
        "    python -m benchmarks.managed\n",
        "AUC on the test split, means over seeds and, of several domains and tasks, over these; differences with 95 % intervals over users and seeds, as",
        "[`foundrank compare`](../how-to/compare.md) gives them. Half: users and items have half as many rows as there are ids. Texts have random vectors.\n",
        "| | ids of users, items | seeds | | first | managed | difference |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for name, of in found.items():
        for first, other in PAIRS:
            for row in _means(of["compared"][other]):
                what = f"{row['domain']}, {row['task']}" if row["domain"] != "mean" else f"mean, {row['task']}"
                numbers = f"{row['first']:.4f} | {row['other']:.4f} | {row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
                ids = f"{of['ids']['user']:,}, {of['ids']['item']:,}"
                lines.append(f"| {name} | {ids} | {of['seeds']} | {other} against {first}: {what} | {numbers} |")
    return "\n".join(lines)


def _means(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of several domains their mean alone."""
    return [row for row in rows if row["domain"] == "mean"] or list(rows)


if __name__ == "__main__":
    typer.run(managed)
