"""A comparison in the terminal, in words, and as one HTML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from ...data.storage.local_writes import write_text
from ..report import page as html
from ..report.terminal_tables import empty_table
from ..retrieval.protocol import NEXT_ITEM
from .differences import BETTER, MEAN, UNDECIDED, WORSE

_TITLES = {"auc": "AUC", "gauc": "GAUC", "uauc": "UAUC", "logloss": "log loss", "rmse": "RMSE", "mae": "MAE"}
_HEADER = ("rows", "first", "other", "difference", "low", "high")
_EXPLAINED = (
    "Differences are other − first, means over seeds; low and high are the ends of a 95 % interval over the choice of users, whose rows "
    "go together, and of seeds, where an arm has several. Each is computed by itself: of twenty intervals, one misses by chance."
)

Row = Mapping[str, Any]


def print_comparison(document: Mapping[str, Any], console: Console) -> None:
    """A table per arm and task: every metric of all rows, the headline of slices, but for those by count; and sentences."""
    first, *others = document["arms"]
    for arm in others:
        rows = [row for row in document["rows"] if row["arm"] == arm["name"]]
        for task in dict.fromkeys(row["task"] for row in rows):
            title = f"{arm['name']} against {first['name']}: {_task(task)}"
            table = empty_table(Text(title, style="bold"), ("domain", "slice", "metric"), (*_HEADER, ""))
            of_task = [row for row in rows if row["task"] == task]
            for row in of_task:
                if _is_told(row, of_task[0]["metric"]):
                    words = (row["domain"], row["slice"].replace("_", " "), _metric(row["metric"]))
                    table.add_row(*map(Text, words), *_cells(row), row["verdict"])
            console.print(table)
    for sentence in sentences(document):
        console.print(Text(sentence))


def sentences(document: Mapping[str, Any]) -> list[str]:
    """Of each other arm and task, on all rows: by what it is better or worse, with the interval, or that it is undecided."""
    first, *others = document["arms"]
    out = []
    for arm in others:
        rows = [row for row in document["rows"] if row["arm"] == arm["name"] and row["slice"] == "all"]
        for task in dict.fromkeys(row["task"] for row in rows):
            of_task = [row for row in rows if row["task"] == task]
            headline = of_task[0]["metric"]
            lines = [row for row in of_task if row["metric"] == headline]
            line = next((row for row in lines if row["domain"] == MEAN), lines[0])
            out.append(_sentence(line, arm["name"], first["name"], [row for row in lines if row["domain"] != MEAN]))
    single = [arm["name"] for arm in document["arms"] if len(arm["seeds"]) == 1]
    if single:
        out.append(f"One seed of {' and of '.join(single)}: the intervals say nothing of what other seeds would give.")
    several = {arm["name"] for arm in document["arms"] if len(arm["seeds"]) > 1}
    unpaired = {row["arm"] for row in document["rows"] if not row["paired"] and several & {row["arm"], first["name"]}}
    if unpaired:
        out.append(f"Seeds of {', '.join(sorted(unpaired))} are not those of {first['name']}, so they are drawn apart.")
    return out


def _sentence(row: Row, arm: str, first: str, lines: Sequence[Row]) -> str:
    where = "in the mean over domains" if row["domain"] == MEAN else f"in {row['domain']}"
    what = f"{_metric(row['metric'])} of {_task(row['task'])}, {where}"
    told = f"{row['difference']:+.4f}"
    told += "" if row["low"] is None else f" [{row['low']:+.4f}, {row['high']:+.4f}]"
    if row["low"] is None:
        out = (
            f"{arm} against {first} has no interval in {what}: {told}; where it is computed, rows or users are too few."
        )
    elif row["verdict"] == UNDECIDED:
        out = f"{arm} against {first} is undecided in {what}: {told}."
    else:
        out = f"{arm} is {row['verdict']} than {first} in {what}: {told}."
    for verdict in (WORSE, BETTER):
        names = [line["domain"] for line in lines if line["verdict"] == verdict]
        if names and len(lines) > 1:
            out += f" {verdict.capitalize()} in {', '.join(names)}."
    return out


def write_page(document: Mapping[str, Any], path: Path) -> None:
    """One HTML file with every number; it fetches nothing."""
    first, *others = document["arms"]
    sections: dict[str, tuple[str, Any]] = {}
    words = "".join(html.paragraph(sentence) for sentence in sentences(document))
    sections["words"] = ("In words", type(html.paragraph(""))(words + html.paragraph(_EXPLAINED, "faint")))
    for n, arm in enumerate(others):
        rows = [row for row in document["rows"] if row["arm"] == arm["name"]]
        for t, task in enumerate(dict.fromkeys(row["task"] for row in rows)):
            groups: dict[str, list[list[str]]] = {}
            for row in rows:
                if row["task"] == task:
                    cells = [
                        f"{row['slice'].replace('_', ' ')}, {_metric(row['metric'])}",
                        *_cells(row),
                        row["verdict"],
                    ]
                    groups.setdefault(row["domain"], []).append(cells)
            title = f"{arm['name']} against {first['name']}: {_task(task)}"
            table = html.grouped_table(title, ("domain", "slice, metric", *_HEADER, ""), list(groups.items()))
            sections[f"arm-{n}-{t}"] = (title, table)
    facts = [("split", document["split"]), ("draws", html.count(document["replicates"]))]
    facts += [
        (arm["name"], f"{len(arm['seeds'])} seed(s): {', '.join(map(str, arm['seeds']))}") for arm in document["arms"]
    ]
    write_text(
        path, html.page("plan.html", title="Comparison of runs", name="comparison", facts=facts, sections=sections)
    )


def _is_told(row: Row, headline: str) -> bool:
    """Whether the terminal shows it; the page has all."""
    return row["slice"] == "all" or (row["metric"] == headline and "_seen_" not in row["slice"])


def _cells(row: Row) -> list[str]:
    numbers = [f"{row['first']:.4f}", f"{row['other']:.4f}", f"{row['difference']:+.4f}"]
    ends = ["–" if row[end] is None else f"{row[end]:+.4f}" for end in ("low", "high")]
    return [f"{row['rows']:,}", *numbers, *ends]


def _task(task: str) -> str:
    return {NEXT_ITEM: "the next item", MEAN: "all tasks"}.get(task, task)


def _metric(key: str) -> str:
    return _TITLES.get(key, key.upper() if "@" in key else key)
