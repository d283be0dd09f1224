"""Encoders of sequences on Amazon Beauty, leave one out, against all items, into docs/results.md.

    python -m benchmarks.next_item --source DATA/amazon_beauty

Trains every arm with several seeds, two at a time on a thread each, and measures the checkpoint that is best on validation. What is
done already is kept; run again, it goes on.
"""

import json
import re
import shutil
import statistics
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

from foundrank.dist.sections import write_section

from .jobs import Out, Source, Work, run_foundrank
from .machine import calibration

AT_A_TIME = 2
_IDS = "text.vectors=none"
ARMS: Mapping[str, tuple[str, ...]] = {
    "SASRec, ids": (_IDS,),
    "SASRec, ids and texts": (),
    "SASRec, texts alone": ("model.aspects=[text]",),
    "HSTU, ids": (_IDS, "model.history.encoder=hstu"),
    "BERT4Rec, ids": (_IDS, "model.history.encoder=bert4rec"),
}
"""Name -> what differs from the imported experiment."""
METRICS = ("hr@10", "ndcg@10", "mrr@10")


def next_item(
    source: Source,
    seeds: Annotated[int, typer.Option(min=1, help="of each arm")] = 3,
    work: Work = Path("runs/next_item"),
    out: Out = Path("docs/results.md"),
    kept: Annotated[Path, typer.Option(help="JSON file for the figures")] = Path("docs/benchmarks/next_item.json"),
) -> None:
    """Measures and writes the section."""
    data = work / "data"
    if not (data / "text_store").is_dir():
        shutil.rmtree(data, ignore_errors=True)
        run_foundrank("import", "amazon-beauty", source, data)
        run_foundrank("embed", data)
    jobs = [(arm, seed) for seed in range(1, seeds + 1) for arm in ARMS]  # all arms of a seed before the next
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        results = list(pool.map(lambda job: _measured(data, work, *job), jobs))
    write = {"machine": calibration(), "seeds": seeds, "results": results}
    kept.write_text(json.dumps(write, indent=1) + "\n")
    write_section(out, "next item", section(write))


def _measured(data: Path, work: Path, arm: str, seed: int) -> dict[str, Any]:
    """The figures of one training."""
    run = work / f"{re.sub('[^a-z0-9]+', '_', arm.lower())}-{seed}"
    if not (run / "evaluation.json").is_file():
        changes = [word for change in (*ARMS[arm], f"seed={seed}") for word in ("--set", change)]
        run_foundrank("train", data, "--run-dir", run, "-p", 1, *changes, threads=1)
        run_foundrank("evaluate", run, "-p", 1, threads=1)
    found = {row["slice"]: row for row in json.loads((run / "evaluation.json").read_text())["next_item"]}
    info = json.loads((run / "run.json").read_text())
    epochs = json.loads((run / "validation.json").read_text())["next_item"][-1]["epoch"]
    result = {"arm": arm, "seed": seed, "test": found, "parameters": info["parameters"], "epochs": epochs}
    print(f"{arm}, seed {seed}:", *(f"{name} {found['all'][name]:.4f}" for name in METRICS), flush=True)
    return result | {"epoch_s": info["seconds"] / epochs}


def section(written: Mapping[str, Any]) -> str:
    """Markdown of the figures."""
    results = written["results"]
    row = results[0]["test"]["all"]
    lines = [
        "## amazon_beauty: the next item\n",
        "    python -m benchmarks.next_item --source ../shared/data/amazon_beauty\n",
        f"Each of {row['rows']:,} users' last item among all {row['items']:,}, past ones left out; the one before is validation, which",
        f"chooses the epoch. Means of {written['seeds']} seeds, and the least and the largest. {written['machine']} A training has one core.\n",
        "| | HR@10 | NDCG@10 | MRR@10 | parameters | seconds an epoch |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for arm in dict.fromkeys(result["arm"] for result in results):
        mine = [result for result in results if result["arm"] == arm]
        cells = [_spread([result["test"]["all"][name] for result in mine]) for name in METRICS]
        seconds = statistics.mean(result["epoch_s"] for result in mine)
        lines.append(f"| {arm} | {' | '.join(cells)} | {mine[0]['parameters']:,} | {seconds:.0f} |")
    popular = [f"{row[f'popularity_{name}']:.4f}" for name in METRICS]
    lines.append(f"| popularity | {' | '.join(popular)} | | |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ({min(values):.4f}–{max(values):.4f})"


if __name__ == "__main__":
    typer.run(next_item)
