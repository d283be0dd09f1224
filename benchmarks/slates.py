"""What lists that are not of one kind cost and bring on Amazon Office, into docs/results/results.md.

    python -m benchmarks.slates --source ../shared/data/amazon_office

Trains the imported experiment once, with ids and texts, and evaluates it with both methods at several weights; items are alike by the run's
vectors, and by their texts. What is done already is kept; run again, it goes on.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from foundrank.dist.study.markdown_sections import write_section

from .jobs import Out, Source, Work, run_foundrank
from .machine import calibration

WEIGHTS = {"mmr": (0.1, 0.3, 0.5, 0.7), "dpp": (0.01, 0.03, 0.1, 0.3)}
"""Method -> weights: from where NDCG is as without to where a third of it is gone."""
ALIKE = {"the run's vectors": (), "texts": ("--alike-by", "text")}
METRICS = ("ndcg@10", "hr@10", "distance@10", "coverage@10", "gini@10", "novelty@10", "listed_popularity@10")


def measure_slates(
    source: Source, work: Work = Path("runs/slates"), out: Out = Path("docs/results/results.md")
) -> None:
    """Measures and writes the section."""
    data, run = work / "data", work / "run"
    if not (data / "text_store").is_dir():
        shutil.rmtree(data, ignore_errors=True)
        run_foundrank("import", "amazon-office", source, data)
        run_foundrank("embed", data)
    if not (run / "best.json").is_file():
        run_foundrank("train", data, "--run-dir", run, "-p", 1, "--set", "seed=1")
    measured = {}
    for alike, by in ALIKE.items():
        measured[alike, "", 0.0] = _measured(run, work, by)
        for method, weights in WEIGHTS.items():
            for weight in weights:
                asked = ("--diversity", method, "--diversity-weight", weight, *by)
                measured[alike, method, weight] = _measured(run, work, asked)
    write_section(out, "slates", section(measured, calibration()))


def _measured(run: Path, work: Path, asked: Sequence[object]) -> dict[str, Any]:
    """All rows' numbers of an evaluation with some options."""
    kept = work / "evaluations" / f"{'_'.join(map(str, asked)).replace('--', '') or 'plain'}.json"
    if not kept.is_file():
        run_foundrank("evaluate", run, "-p", 1, *asked)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run / "evaluation.json", kept)
    (row,) = [r for r in json.loads(kept.read_text(encoding="utf-8"))["next_item"] if r["slice"] == "all"]
    return row


def section(measured: Mapping[tuple[str, str, float], Mapping[str, Any]], machine: str) -> str:
    """Markdown of the figures."""
    row = next(iter(measured.values()))
    lines = [
        "## amazon_office: lists that are not of one kind\n",
        "    python -m benchmarks.slates --source ../shared/data/amazon_office\n",
        f"SASRec with ids and texts, one seed; lists of 10 for {row['rows']:,} test rows, of {row['items']:,} items, past ones among them, each chosen from the",
        f"best 100. Popularity of past items: {row['past_popularity']:.4f}. {machine}\n",
        "| alike by | | weight | NDCG@10 | HR@10 | distance | coverage | Gini | novelty | popularity |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (alike, method, weight), found in measured.items():
        numbers = " | ".join(f"{found[metric]:.4f}" for metric in METRICS)
        lines.append(f"| {alike} | {method.upper() or 'by score'} | {weight or ''} | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(measure_slates)
