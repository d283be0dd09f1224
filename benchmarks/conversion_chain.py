"""Conversions learned from all impressions (`given: click`, ESMM) and from clicks alone, into docs/results/results.md.

    python -m benchmarks.conversion_chain --world market
    python -m benchmarks.conversion_chain --world platform

Each seed draws a world of its own and trains all arms on it. An arm predicts that an impression is clicked and converts: the
chain by its score, the others by the product of two. What is done already is kept; run again, it goes on.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.dataset as ds
import typer
import yaml
from scipy.stats import t as student

import foundrank
from foundrank.dist.study.markdown_sections import write_section
from foundrank.model.tasks.metrics import auc, calibration, logloss

from .jobs import Out, Work

CLICK = {"kind": "binary", "label": "click"}
CONVERSION = {"kind": "binary", "label": "conversion"}
ARMS: dict[str, list[dict[str, Any]]] = {
    "chain": [{"click": CLICK, "conversion": CONVERSION | {"given": "click"}}],
    "two tasks": [{"click": CLICK, "conversion": CONVERSION}],
    "two models": [{"click": CLICK}, {"conversion": CONVERSION}],
}
"""Name -> the tasks of each of its models."""
WORLDS: dict[str, dict[str, Any]] = {
    "market": {"only": ["shelf"]},
    "platform": {"text": {"vectors": "none"}, "training": {"epochs": 2}},
}
"""Name -> what differs from the simulated experiment."""
METRICS = {"AUC": auc, "log loss": logloss, "calibration": calibration}


def conversion_chain(
    world: Annotated[str, typer.Option(help=" or ".join(WORLDS))] = "market",
    rows: Annotated[int, typer.Option(min=10_000, help="of each world")] = 60_000,
    seeds: Annotated[int, typer.Option(min=2, help="worlds")] = 5,
    work: Work = Path("runs/conversion_chain"),
    out: Out = Path("docs/results/results.md"),
) -> None:
    """Trains what is not done, and writes the section."""
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(1, seeds + 1):
        folder = work / f"{world}-{rows}" / f"seed-{seed}"
        if not (folder / "data").exists():
            foundrank.simulate(folder / "data", rows, seed, world)
        for arm, models in ARMS.items():
            for prediction, metrics in _measured(folder, arm, models, seed, WORLDS[world]).items():
                found.setdefault(prediction, []).append(metrics)
                typer.echo(f"seed {seed}, {prediction}: {metrics}")
    write_section(out, f"conversion-chain-{world}", _section(world, rows, seeds, found))


def _measured(
    folder: Path, arm: str, models: list[dict[str, Any]], seed: int, changes: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """What an arm's predictions are worth on all test impressions, means over domains; it is trained if that is not done."""
    name = arm.replace(" ", "-")
    kept = folder / f"{name}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    plain = yaml.safe_load((folder / "data" / "experiment.yaml").read_text(encoding="utf-8"))
    scorers, domains = [], {}
    for number, tasks in enumerate(models):
        of_all = {domain: config | {"tasks": tasks} for domain, config in plain["domains"].items()}
        path = folder / "data" / f"{name}-{number}.yaml"
        path.write_text(yaml.safe_dump(plain | {"domains": of_all}), encoding="utf-8")
        experiment = foundrank.load_experiment(path, seed=seed, **changes)
        scorers.append(foundrank.load(foundrank.train(experiment, folder / f"{name}-{number}")))
        domains = experiment.domains
    of_domains: dict[str, list[list[float]]] = {}
    for domain, config in domains.items():
        table = ds.dataset(sorted(map(str, Path(str(config.events.test)).parent.glob("*.parquet")))).to_table()
        both = np.nan_to_num(table["conversion"].to_numpy().astype(float)) * table["click"].to_numpy()
        scored = [scorer.score(table, domain=domain) for scorer in scorers]
        columns = {
            name: of[name].to_numpy().astype(float) for of in scored for name in of.column_names if "score_" in name
        }
        click, conversion = columns.get("score_click"), columns["score_conversion"]
        predictions = {arm: conversion if arm == "chain" else click * conversion}
        if arm == "two tasks":
            predictions["conversion of clicks alone"] = conversion
        for prediction, values in predictions.items():
            of_domains.setdefault(prediction, []).append([of(both, values) for of in METRICS.values()])
    means = {each: dict(zip(METRICS, np.mean(values, 0).tolist(), strict=True)) for each, values in of_domains.items()}
    kept.write_text(json.dumps(means), encoding="utf-8")
    return means


def _section(world: str, rows: int, seeds: int, found: dict[str, list[dict[str, float]]]) -> str:
    first, *others = found
    lines = [
        f"## Conversions over impressions: a chain and two tasks ({world})\n",
        f"    python -m benchmarks.conversion_chain --world {world} --rows {rows} --seeds {seeds}\n",
        f"{seeds} simulated worlds of {rows:,} rows, conversions seen on clicks alone. Test impressions, means over domains and worlds;",
        "differences have their 95 % intervals (paired t over worlds). Two tasks, two models: the product of both scores, where conversions",
        "are learned from clicks, in one model or a second one; conversion of clicks alone: the second score of the two tasks.\n",
        f"| | {' | '.join([*found, *(f'{first} less {other}' for other in others)])} |",
        f"| --- |{' ---: |' * (2 * len(found) - 1)}",
    ]
    for metric in METRICS:
        of_each = {name: np.array([of_seed[metric] for of_seed in values]) for name, values in found.items()}
        cells = [f"{values.mean():.4f}" for values in of_each.values()]
        cells += [_interval(of_each[first] - of_each[other]) for other in others]
        lines.append(f"| {metric} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _interval(gaps: np.ndarray) -> str:
    """The mean of paired differences and its 95 % interval."""
    half = student.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
    return f"{gaps.mean():+.4f} ({gaps.mean() - half:+.4f} to {gaps.mean() + half:+.4f})"


if __name__ == "__main__":
    typer.run(conversion_chain)
