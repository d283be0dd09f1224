"""Encoders of sequences on Amazon Beauty, leave one out, against all items, into docs/results/results.md.

    python -m benchmarks.next_item --source DATA/amazon_beauty

Trains every arm with several seeds, two at a time on a thread each, and measures the checkpoint that is best on validation. Then the
same without a tenth of the items in training: how well are items found that no user of training has seen? What is done already is
kept; run again, it goes on.
"""

import json
import math
import re
import shutil
import statistics
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

from foundrank.dist.study.markdown_sections import write_section

from .jobs import Out, Source, Work, assigned, run_foundrank
from .machine import calibration
from .unseen_items import SHARE, without_items

AT_A_TIME = 2
_IDS = "text.vectors=none"
ARMS: dict[str, tuple[str, ...]] = {
    "SASRec, ids": (_IDS,),
    "SASRec, ids and texts": (),
    "HSTU, ids": (_IDS, "model.history.encoder=hstu"),
    # Of a row it finds three in ten and the last, not all: an epoch teaches less, and little is learned by heart.
    "BERT4Rec, ids": (
        _IDS,
        "model.history.encoder=bert4rec",
        "model.history.dropout=0.1",
        "model.next_item.mask_share=0.3",
        "training.batch_size=128",
        "training.sparse_learning_rate=0.02",
    ),
}
"""Name -> what differs from the imported experiment."""
UNSEEN: dict[str, tuple[str, ...]] = {
    "SASRec, texts alone": ("model.aspects=[text]",),
    "SASRec, ids and texts": (),
}
"""Arms that are trained without some of the items, with one seed."""
METRICS = ("hr@10", "ndcg@10", "mrr@10")


def next_item(
    source: Source,
    seeds: Annotated[int, typer.Option(min=1, help="of each arm")] = 3,
    work: Work = Path("runs/next_item"),
    out: Out = Path("docs/results/results.md"),
    kept: Annotated[Path, typer.Option(help="JSON file for the figures")] = Path(
        "docs/results/benchmarks/next_item.json"
    ),
) -> None:
    """Measures and writes the section."""
    data = work / "data"
    if not (data / "text_store").is_dir():
        shutil.rmtree(data, ignore_errors=True)
        run_foundrank("import", "amazon-beauty", source, data)
        run_foundrank("embed", data)
    fewer = work / "data_without"
    if not fewer.is_dir():
        without_items(data, fewer)
    # All arms of a seed before the next.
    every = [*((data, arm) for arm in ARMS), *((fewer, arm) for arm in UNSEEN)]
    jobs = [(*job, seed) for seed in range(1, seeds + 1) for job in every if seed == 1 or job[0] == data]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        results = list(pool.map(lambda job: _measured(work, *job), jobs))
    whole, unseen = ([r for r, job in zip(results, jobs, strict=True) if job[0] == of] for of in (data, fewer))
    write = {"machine": calibration(), "seeds": seeds, "results": whole, "unseen": unseen}
    kept.write_text(json.dumps(write, indent=1) + "\n", encoding="utf-8")
    write_section(out, "next item", f"{section(write)}\n\n{unseen_section(write)}")


def _measured(work: Path, data: Path, arm: str, seed: int) -> dict[str, Any]:
    """The figures of one training."""
    run = work / "runs" / data.name / f"{re.sub('[^a-z0-9]+', '_', arm.lower())}-{seed}"
    if not (run / "evaluation.json").is_file():
        changes = assigned((*(ARMS | UNSEEN)[arm], f"seed={seed}"))
        run_foundrank("train", data, "--run-dir", run, "-p", 1, *changes, threads=1)
        run_foundrank("evaluate", run, "-p", 1, threads=1)
    found = {
        row["slice"]: row for row in json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["next_item"]
    }
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    epochs = json.loads((run / "validation.json").read_text(encoding="utf-8"))["next_item"][-1]["epoch"]
    result = {"arm": arm, "seed": seed, "test": found, "parameters": info["parameters"], "epochs": epochs}
    print(f"{data.name}: {arm}, seed {seed}:", *(f"{name} {found['all'][name]:.4f}" for name in METRICS), flush=True)
    return result | {"epoch_s": info["seconds"] / epochs}


def section(written: Mapping[str, Any]) -> str:
    """Markdown of the figures."""
    results = written["results"]
    row = results[0]["test"]["all"]
    lines = [
        "## amazon_beauty: the next item\n",
        f"    python -m benchmarks.next_item --source ../shared/data/amazon_beauty --seeds {written['seeds']}\n",
        f"Each of {row['rows']:,} users' last item among all {row['items']:,}, past ones left out; the one before is validation, which",
        f"chooses the epoch. Means of {written['seeds']} seed(s), and the least and the largest. {written['machine']} A training has one core;",
        "its time an epoch, validation included, is the least of the seeds.\n",
        "| | HR@10 | NDCG@10 | MRR@10 | parameters | seconds an epoch |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for arm in dict.fromkeys(result["arm"] for result in results):
        mine = [result for result in results if result["arm"] == arm]
        cells = [_spread([result["test"]["all"][name] for result in mine]) for name in METRICS]
        seconds = min(result["epoch_s"] for result in mine)
        lines.append(f"| {arm} | {' | '.join(cells)} | {mine[0]['parameters']:,} | {seconds:.0f} |")
    popular = [f"{row[f'popularity_{name}']:.4f}" for name in METRICS]
    lines.append(f"| popularity | {' | '.join(popular)} | | |")
    return "\n".join(lines)


def unseen_section(written: Mapping[str, Any]) -> str:
    """Markdown of how items are found that training has not seen."""
    results = written["unseen"]
    row = results[0]["test"]["cold_items"]
    lines = [
        "### Items never seen in training\n",
        f"The same, with {SHARE:.0%} of the items taken out of training: the {row['rows']:,} test users whose item is one that training has",
        f"not seen, each among all {row['items']:,} items. One seed, with 95 % intervals over users.\n",
        "| | HR@10 | HR@20 | of seen items: HR@10 |",
        "| --- | ---: | ---: | ---: |",
    ]
    for arm in dict.fromkeys(result["arm"] for result in results):
        (of,) = [result["test"] for result in results if result["arm"] == arm]
        cells = [wilson(of["cold_items"][metric], row["rows"]) for metric in ("hr@10", "hr@20")]
        lines.append(f"| {arm} | {' | '.join(cells)} | {of['warm_items']['hr@10']:.4f} |")
    popular = [wilson(row[f"popularity_{metric}"], row["rows"]) for metric in ("hr@10", "hr@20")]
    warm = results[0]["test"]["warm_items"]["popularity_hr@10"]
    lines.append(f"| popularity | {' | '.join(popular)} | {warm:.4f} |")
    chance = [f"{cutoff / row['items']:.4f}" for cutoff in (10, 20)]
    lines.append(f"| at random | {' | '.join([*chance, chance[0]])} |")
    return "\n".join(lines)


def wilson(share: float, rows: int) -> str:
    """A share of independent rows, and its 95 % interval (Wilson, 1927)."""
    z = statistics.NormalDist().inv_cdf(0.975)
    middle, half = share + z * z / (2 * rows), z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    low, high = ((middle + sign * half) / (1 + z * z / rows) for sign in (-1, 1))
    return f"{share:.4f} [{max(low, 0):.4f}, {high:.4f}]"


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ({min(values):.4f}–{max(values):.4f})"


if __name__ == "__main__":
    typer.run(next_item)
