"""Preference alignment with a reward, and with noise in its place, on public data, into docs/results/results.md.

    python -m benchmarks.preference --data ../shared/data --seeds 3 --only amazon-office

A generator for each seed, one run that rewards, and an alignment of each generator with it and with noise. Measured is the test split before and after.
What is done in WORK is kept; run again, it goes on.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from foundrank.dist.align.measured import change_told, measured
from foundrank.dist.run.run_folder import open_experiment
from foundrank.dist.study.markdown_sections import write_section

from .jobs import Out, Work, assigned, run_foundrank, source_of

_IDS = "text.vectors=none"
_ANOTHER = ("seeds=3", "seed=101")


@dataclass(frozen=True)
class Data:
    """One data set.

    Attributes:
        generator: settings of what finds items.
        reward: settings of what rewards them.
        told: what the reward is, in words.
        weights: of its tasks.
        align: settings of the alignment.
    """

    generator: tuple[str, ...]
    reward: tuple[str, ...]
    told: str
    weights: str = ""
    align: tuple[str, ...] = ()


DATA = {
    "amazon-office": Data((_IDS,), (_IDS, *_ANOTHER), "the mean of three other seeds' models"),
    "amazon-beauty": Data(
        (_IDS,), (_IDS, "model.history.reasoning={learning: ensemble}", "seed=1"), "a model with latent reasoning"
    ),
    "movietweetings": Data(
        (
            _IDS,
            "model.history.encoder=sasrec",
            "model.next_item={loss: softmax, candidates: domain}",
            "model.rates=false",
        ),
        (_IDS, "seed=1"),
        "the task liked of the imported experiment",
        "liked=1",
        ("training.epochs=1", "model.next_item.preference.nll=5"),
    ),
}
ARMS = ("reward", "noise")


def preference(
    data: Annotated[Path, typer.Option(help="folder with the data sets' folders")] = Path("../shared/data"),
    seeds: Annotated[int, typer.Option(min=1, help="generators of each data set")] = 3,
    only: Annotated[str, typer.Option(help="pattern of the data sets")] = "",
    work: Work = Path("runs/preference"),
    out: Out = Path("docs/results/results.md"),
    kept: Annotated[Path, typer.Option(help="JSON file for the figures")] = Path(
        "docs/results/benchmarks/preference.json"
    ),
) -> None:
    """Measures and writes the section; of other data sets, as the file of figures has it."""
    for name in (name for name in DATA if re.search(only, name)):
        found = _measured(name, data, work, range(1, seeds + 1))
        written = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
        kept.write_text(json.dumps(written | {name: found}, indent=1) + "\n", encoding="utf-8")
        write_section(out, "preference alignment", section(written | {name: found}))


def _measured(name: str, source: Path, work: Path, seeds: Sequence[int]) -> dict[str, Any]:
    of, folder = DATA[name], work / name
    if not (folder / "data" / "experiment.yaml").is_file():
        run_foundrank("import", name, source_of(source, name), folder / "data")
    _trained(folder, "reward", of.reward)
    for seed in seeds:
        _trained(folder, f"generator-{seed}", (*of.generator, f"seed={seed}"))
        for arm in ARMS:
            if not (folder / f"{arm}-{seed}" / "alignment.json").is_file():
                _align(folder, of, arm, seed)
    experiment = open_experiment(folder / "generator-1")
    domains = [domain for domain, config in experiment.domains.items() if config.events.test]
    changed = {
        arm: measured([str((folder / f"{arm}-{seed}").absolute()) for seed in seeds], experiment, domains)
        for arm in ARMS
    }
    return {"seeds": len(seeds), "reward": of.told, "measures": changed}


def _trained(folder: Path, run: str, changes: Sequence[str]) -> None:
    asked = assigned(changes)
    if not (folder / run / "report.html").is_file():  # which a training writes last
        run_foundrank("train", folder / "data", "--run-dir", folder / run, "-p", 1, *asked, threads=1)


def _align(folder: Path, of: Data, arm: str, seed: int) -> None:
    reward = ["--reward", folder / "reward", *(["--weights", of.weights] if of.weights else [])]
    asked = assigned(of.align)
    chosen = reward if arm == "reward" else ["--reward", "noise"]
    places = (folder / f"generator-{seed}", folder / f"{arm}-{seed}")
    run_foundrank("align", *places, *chosen, "-p", 1, *asked, threads=1)


def section(written: Mapping[str, Any]) -> str:
    """Markdown of the figures."""
    lines = [
        "## Preference alignment\n",
        "    python -m benchmarks.preference\n",
        "Lists of the best ten items of the test split, before and after `foundrank align` with its defaults (DPO), of movietweetings with one epoch and `nll` 5. Means over seeds; 95 % intervals of the differences are over",
        "users and seeds; of one seed, over users alone. With noise in place of a reward nothing should change. On movietweetings hits of new films rise with noise, too: its generator has learnt for two epochs, and the usual loss",
        "goes on. What the reward adds there is what differs between the two; older films lose hits.\n",
        "| data, domain | seeds | aligned with | measure | before | after | difference | relative |",
        "| --- | ---: | --- | --- | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    for name, of in written.items():
        for arm, rows in of["measures"].items():
            reward = of["reward"] if arm == "reward" else "noise"
            for row in (row for row in rows if row["rows"]):
                relative = "–" if row["relative"] is None else f"{row['relative']:+.1%}"
                numbers = f"{row['before']:.4f} | {row['after']:.4f} | {change_told(row)} | {relative}"
                lines.append(f"| {name}, {row['domain']} | {of['seeds']} | {reward} | {row['measure']} | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(preference)
