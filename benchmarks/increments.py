"""A model kept fresh over the days of a feed, into docs/results/results.md.

    python -m benchmarks.increments --seeds 3

A feed of thirty days is simulated, in which items and users come and go and tastes move, with one break. A model is trained on the first
nine days. Each later day is scored before anything learns from it: by that model as it was (static); by one that is trained from nothing at
the end of every week, on all days so far (weekly); and by one that is updated with each day's rows (daily). What is done in WORK is kept; run
again, it goes on.
"""

import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import typer
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foundrank.data.config.sections.bad_data import BadDataConfig
from foundrank.data.events.event_files import list_events
from foundrank.dist.increments.measure import measured
from foundrank.dist.ranks.process_state import process_kept
from foundrank.dist.ranks.runtime import alone
from foundrank.dist.study.markdown_sections import write_section
from foundrank.model.kinds import KINDS

from .jobs import Out, Work, assigned, run_foundrank
from .machine import calibration

DAYS, FIRST, WEEK = 30, 9, 7
ENTITIES = {"user": 40_000, "item": 4_000}
SETTINGS = (
    "text.vectors=random",
    *(f"entities.{name}.{setting}" for name, rows in ENTITIES.items()
      for setting in ("encoding=managed", f"rows={rows}", "expire_after=10")),
)  # fmt: skip
ARMS = ("static", "weekly", "daily")


def increments(
    seeds: Annotated[int, typer.Option(min=1, help="worlds and trainings")] = 3,
    rows: Annotated[int, typer.Option(help="events of all days")] = 300_000,
    work: Work = Path("runs/increments"),
    out: Out = Path("docs/results/results.md"),
    figure: Annotated[Path, typer.Option(help="PNG of the days")] = Path("docs/results/increments.png"),
    kept: Annotated[Path, typer.Option(help="JSON file for the figures")] = Path(
        "docs/results/benchmarks/increments.json"
    ),
) -> None:
    """Measures and writes the section."""
    found = [_measure(work / str(seed), seed, rows) for seed in range(1, seeds + 1)]
    write = {"machine": calibration(), "rows": rows, "results": found}
    kept.write_text(json.dumps(write, indent=1) + "\n", encoding="utf-8")
    _draw(found, figure)
    write_section(out, "days of a feed", section(write))


def _measure(work: Path, seed: int, rows: int) -> dict[str, Any]:
    """All arms in one world."""
    if (file := work / "found.json").is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    data = work / "data"
    if not (data / "experiment.yaml").is_file():
        run_foundrank("simulate", data, "--days", DAYS, "--rows", rows, "--seed", seed)
        run_foundrank("embed", data, "--set", SETTINGS[0])
    later = range(FIRST + 1, DAYS + 1)
    base = _trained(work, data, seed, FIRST)
    arms: dict[str, dict[str, Any]] = {name: {"auc": {}, "seconds": 0.0, "rows": 0} for name in ARMS}
    arms["static"]["auc"] = _scored(data, base, later)
    run, since = base, FIRST
    for end in range(FIRST + WEEK, DAYS + WEEK, WEEK):
        days = range(since + 1, min(end, DAYS) + 1)
        arms["weekly"]["auc"] |= _scored(data, run, days)
        if end < DAYS:
            run, since = _trained(work, data, seed, end), end
            _add(arms["weekly"], run)
    daily = work / "daily"
    if not daily.is_dir():
        shutil.copytree(base, daily)
    run_foundrank(
        "update", daily, "--events", data / "events" / "feed" / "day=*" / "*.parquet", "-p", 1, "--keep", DAYS
    )
    lines = (daily / "increments.jsonl").read_text(encoding="utf-8").splitlines()
    learned = dict(zip(later, map(json.loads, lines), strict=True))
    for day, line in learned.items():
        arms["daily"]["auc"][day] = line["before"]["score"]
        _add(arms["daily"], daily / line["run"])
    oracle = {day: line["before"]["rows"][0]["oracle_auc"] for day, line in learned.items()}
    result = {"seed": seed, "oracle": oracle, "arms": arms}
    file.write_text(json.dumps(result), encoding="utf-8")
    means = (f"{name} {statistics.fmean(of['auc'].values()):.4f}" for name, of in arms.items())
    print(f"seed {seed}:", *means, flush=True)
    return json.loads(file.read_text(encoding="utf-8"))


def _trained(work: Path, data: Path, seed: int, until: int) -> Path:
    """A run from nothing on the days up to one, all epochs."""
    run, days = work / f"until_{until:02d}", work / f"days_{until:02d}"
    days.mkdir(parents=True, exist_ok=True)
    for day in range(1, until + 1):
        link = days / _name(day)
        if not link.is_symlink():
            link.symlink_to((data / "events" / "feed" / _name(day)).resolve())
    events = f"domains.feed.events.train={days.resolve()}/*/*.parquet"
    changes = assigned((*SETTINGS, events, f"seed={seed}", "training.keep_best=false"))
    run_foundrank("train", data, "--run-dir", run, "-p", 1, *changes, threads=1)
    return run


def _name(day: int) -> str:
    return f"day=2026-01-{day:02d}"


def _add(arm: dict[str, Any], run: Path) -> None:
    """Adds what a training took to what an arm has."""
    arm["seconds"] += json.loads((run / "run.json").read_text(encoding="utf-8"))["seconds"]
    arm["rows"] += rows_read(run)


def rows_read(run: Path) -> int:
    """By a training, in all its epochs."""
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    experiment = yaml.safe_load((run / "experiment.yaml").read_text(encoding="utf-8"))
    return info["rows"] * experiment["training"]["epochs"]


def _scored(data: Path, run: Path, days: Sequence[int]) -> dict[int, float]:
    """Day -> the AUC of its clicks."""
    return {day: score_of(run, {"feed": str(data / "events" / "feed" / _name(day) / "*.parquet")}) for day in days}


def score_of(run: Path, events: Mapping[str, str]) -> float:
    """What an update says of a run, before it learns from events: domain -> the pattern of their files."""
    files = {
        domain: list_events(str(Path(pattern).resolve()), "events", BadDataConfig())
        for domain, pattern in events.items()
    }
    with process_kept(), alone() as runtime:
        return measured(run.resolve(), files, KINDS, runtime)["score"]


def section(written: Mapping[str, Any]) -> str:
    """Markdown of the figures."""
    results, rows = written["results"], written["rows"]
    every = [str(day) for day in range(FIRST + 1, DAYS + 1)]
    anew = [str(day) for day in range(FIRST + WEEK + 1, DAYS, WEEK)]
    lines = [
        "## Days of a feed: increments against retraining\n",
        "    python -m benchmarks.increments\n",
        f"`foundrank simulate --days {DAYS} --rows {rows}`, {len(results)} worlds. Trained on {FIRST} days with four epochs; each later day is scored before anything",
        "learns from it. Weekly: trained from nothing on all days so far, four epochs, after each seventh day. Daily: `foundrank update`, one",
        f"pass over each day. Ids are managed: {ENTITIES['user']:,} rows for users, {ENTITIES['item']:,} for items, given back after ten days. {written['machine']}\n",
        "![AUC of each day, of the three and of the truth](increments.png)\n",
        f"| | AUC of clicks, mean over days (least and largest of the worlds) | from the break on | days {' and '.join(anew)}, after a retraining | training: rows read, in units of a day | seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in ARMS:
        arms = [one["arms"][name] for one in results]
        means = [_mean([of["auc"]], every) for of in arms]
        late, fresh = (_mean([of["auc"] for of in arms], days) for days in (every[_break() - FIRST - 1 :], anew))
        read = statistics.fmean(of["rows"] for of in arms) / (rows / DAYS)
        seconds = statistics.fmean(of["seconds"] for of in arms)
        cells = f"{statistics.fmean(means):.4f} ({min(means):.4f}–{max(means):.4f}) | {late:.4f} | {fresh:.4f}"
        lines.append(f"| {name} | {cells} | {read:.0f} | {seconds:.0f} |")
    truth = [one["oracle"] for one in results]
    cells = (f"{_mean(truth, days):.4f}" for days in (every, every[_break() - FIRST - 1 :], anew))
    lines.append(f"| the truth | {' | '.join(cells)} | | |\n")
    lines += [
        "Increments lose nothing: on the two days on which both have seen the same days they are ahead, too, as what is recent weighs more. They read a",
        "seventh of the rows here; a retraining reads more from week to week, an increment does not: one after day 30 would read 17 times a week of days.",
    ]
    return "\n".join(lines)


def _mean(series: Sequence[Mapping[str, float]], days: Sequence[str]) -> float:
    return statistics.fmean(of[day] for of in series for day in days)


def _break() -> int:
    """The first day on which everybody wants something else, as simulated: at two thirds."""
    return DAYS * 2 // 3 + 1


def _draw(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    days = [str(day) for day in range(FIRST + 1, DAYS + 1)]
    shown, axes = plt.subplots(figsize=(8, 4))
    for name in (*ARMS, "oracle"):
        of = [one["oracle"] if name == "oracle" else one["arms"][name]["auc"] for one in results]
        mean = [statistics.fmean(each[day] for each in of) for day in days]
        axes.plot(
            [int(day) for day in days],
            mean,
            label="the truth" if name == "oracle" else name,
            marker="." if name != "oracle" else None,
        )
    axes.set_xticks([int(day) for day in days])
    save_figure(shown, axes, ("day", "AUC of its clicks, scored beforehand"), path)


def save_figure(shown: Figure, axes: Axes, names: tuple[str, str], path: Path) -> None:
    """Names the axes of a figure, and writes it."""
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.legend()
    axes.grid(alpha=0.3)
    shown.tight_layout()
    shown.savefig(path, dpi=110)


if __name__ == "__main__":
    typer.run(increments)
