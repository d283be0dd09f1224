"""What single mechanisms are worth on public data, each against the same model without it, into docs/results/results.md.

    python -m benchmarks.worth --data ../shared/data --seeds 3

Each arm is the imported experiment with some settings; differences are what `foundrank compare` says. What is done in WORK is kept; run again, it goes on.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from foundrank.dist.study.markdown_sections import write_section

from .jobs import Out, Work, assigned, compared, run_foundrank, source_of

_IDS = "text.vectors=none"
SIMULATED = 100_000


@dataclass(frozen=True)
class Question:
    """Arms on one data set, the first of which the others are held against.

    Attributes:
        data: as `foundrank import` calls it.
        metric: by which they are compared.
        arms: name -> settings.
        codes: of items, a setting of all arms; empty: there are none, and no texts' vectors.
    """

    data: str
    metric: str
    arms: Mapping[str, tuple[str, ...]]
    codes: str = ""


_SASREC, _DIN = "model.history.encoder=sasrec", "model.history.encoder=din"


def _reasons(settings: str) -> str:
    return f"model.history.reasoning={{{settings}}}"


_CODES = "entities.item.contents={codes: {codes: {method: rq_kmeans}}, flat: {codes: {method: parallel, levels: 32}}}"


def _generates(decoder: str, epochs: int = 28) -> tuple[str, ...]:
    next_item = f"model.next_item={{target: codes, positions: all, label_smoothing: 0.1, decoder: {{{decoder}}}}}"
    steps = f"training={{epochs: {epochs}, batch_size: 64, learning_rate: 0.0015, gradient_clip: 20, keep_best: false}}"
    return next_item, "model.aspects=[codes, flat, text]", steps


_FINDING = {
    "SASRec": (_IDS,),
    "ensemble": (_IDS, _reasons("learning: ensemble")),
    "progressive": (_IDS, _reasons("learning: progressive")),
}

QUESTIONS: dict[str, Question] = {
    "latent reasoning, finding, amazon-beauty": Question("amazon-beauty", "ndcg@10", _FINDING),
    "latent reasoning, finding, amazon-office": Question(
        "amazon-office",
        "ndcg@10",
        _FINDING | {"progressive, blocks of 3": (_IDS, _reasons("learning: progressive, block: 3"))},
    ),
    "latent reasoning, ranking": Question(
        "movietweetings",
        "auc",
        {
            "SASRec": (_IDS, _SASREC),
            "ensemble": (_IDS, _SASREC, _reasons("learning: ensemble")),
            "ensemble, blocks of 3": (_IDS, _SASREC, _reasons("learning: ensemble, block: 3")),
        },
    ),
    "a task for each step, ranking": Question(
        "simulated",
        "auc",
        {
            "a next item beside the tasks": (_IDS, _SASREC, "model.next_item={}"),
            "two steps": (_IDS, _SASREC, "model.next_item={}", _reasons("learning: progressive")),
            "click, then conversion": (
                _IDS,
                _SASREC,
                "model.next_item={}",
                _reasons("learning: progressive, tasks: [click, conversion]"),
            ),
        },
    ),
    **{
        f"codes in any order (REG4Rec), {data}": Question(
            data,
            "ndcg@10",
            {
                "autoregressive": _generates("kind: autoregressive"),
                "any order": _generates("kind: any_order"),
                "any order, one path": _generates("kind: any_order, paths: 1"),
            },
            _CODES,
        )
        for data in ("amazon-office", "amazon-beauty")
    },
    **{
        f"a table for attention (DARE), {data}": Question(
            data,
            "auc",
            {"DIN": (_IDS, _DIN), "decoupled": (_IDS, _DIN, "model.history.decoupled=true")},
        )
        for data in ("movietweetings", "completejourney")
    },
}
"""What is asked -> how it is answered."""


def worth(
    data: Annotated[Path, typer.Option(help="folder with the data sets' folders")] = Path("../shared/data"),
    seeds: Annotated[int, typer.Option(min=1, help="of each arm")] = 3,
    only: Annotated[str, typer.Option(help="pattern of the questions to answer")] = "",
    at_a_time: Annotated[int, typer.Option(min=1, help="trainings")] = 2,
    work: Work = Path("runs/worth"),
    out: Out = Path("docs/results/results.md"),
    kept: Annotated[Path, typer.Option(help="JSON file for the figures")] = Path("docs/results/benchmarks/worth.json"),
) -> None:
    """Measures and writes the section; of other questions, as the file of figures has it."""
    for name in (name for name in QUESTIONS if re.search(only, name)):
        answer = _answer(QUESTIONS[name], data, work, range(1, seeds + 1), at_a_time)
        written = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
        kept.write_text(json.dumps(written | {name: answer}, indent=1) + "\n", encoding="utf-8")
        write_section(out, "worth", section(written | {name: answer}))


def _answer(asked: Question, source: Path, work: Path, seeds: Sequence[int], at_a_time: int) -> dict[str, Any]:
    """Seeds, and what `foundrank compare` says of each arm but the first."""
    data = _data(asked, source, work)
    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(lambda job: _trained(data, work, asked, *job), [(arm, s) for s in seeds for arm in asked.arms]))
    first, *others = asked.arms
    found = {}
    for other in others:
        file = work / f"{asked.data}-{_plain(other)}-against-{_plain(first)}-{len(seeds)}.json"
        arms = {_plain(arm): [_run(work, asked, arm, seed) for seed in seeds] for arm in (first, other)}
        found[other] = [row for row in compared(file, arms, threads=1) if row["metric"] == asked.metric]
    return {"data": asked.data, "metric": asked.metric, "seeds": len(seeds), "first": first, "compared": found}


def _data(asked: Question, source: Path, work: Path) -> Path:
    data = work / "data" / asked.data
    if asked.data == "simulated" and not (data / "experiment.yaml").is_file():
        run_foundrank("simulate", data, "--rows", SIMULATED)
    if not (data / "experiment.yaml").is_file():
        run_foundrank("import", asked.data, source_of(source, asked.data), data)
    if asked.codes and not (data / "tokenized").is_file():
        shutil.rmtree(data / "text_store", ignore_errors=True)
        run_foundrank("embed", data)
        run_foundrank("tokenize", data, "--set", asked.codes)
        (data / "tokenized").touch()
    return data


def _plain(arm: str) -> str:
    return re.sub("[^a-z0-9]+", "_", arm.lower())


def _run(work: Path, asked: Question, arm: str, seed: int) -> Path:
    return work / asked.data / f"{_plain(arm)}-{seed}"


def _trained(data: Path, work: Path, asked: Question, arm: str, seed: int) -> None:
    run = _run(work, asked, arm, seed)
    if not (run / "evaluation.json").is_file():
        settings = (*([asked.codes] if asked.codes else []), *asked.arms[arm], f"seed={seed}")
        run_foundrank("train", data, "--run-dir", run, "-p", 1, *assigned(settings), threads=1)
        run_foundrank("evaluate", run, "-p", 1, "--predictions", threads=1)


def section(written: Mapping[str, Any]) -> str:
    """Markdown of the figures."""
    lines = [
        "## What single mechanisms are worth\n",
        "    python -m benchmarks.worth\n",
        "The imported experiment with and without each; the test split, means over seeds, of several domains over these; differences with 95 % intervals over users and seeds.\n",
        "| | data | seeds | metric | | first | it | difference |",
        "| --- | --- | ---: | --- | --- | ---: | ---: | ---: |",
    ]
    for name, of in written.items():
        for arm, rows in of["compared"].items():
            for row in [row for row in rows if row["domain"] == "mean"] or rows:
                numbers = f"{row['first']:.4f} | {row['other']:.4f} | {row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
                asked = name.removesuffix(f", {of['data']}")
                lines.append(
                    f"| {asked} | {of['data']} | {of['seeds']} | {of['metric']} | {arm} against {of['first']} | {numbers} |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(worth)
