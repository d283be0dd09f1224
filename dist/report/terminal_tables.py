"""Tables in a terminal: their look, and metrics in them."""

from collections.abc import Collection, Mapping, Sequence
from itertools import compress
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...data.config.sections.task import Measures, Metric
from ..evaluate.slices import summary
from ..retrieval.protocol import items_in_words, told_in_words

LISTS = {
    "distance@10": "distance",
    "coverage@10": "coverage",
    "gini@10": "Gini",
    "novelty@10": "novelty",
    "listed_popularity@10": "popularity",
    "past_popularity": "of the past",
}
"""What is told of lists, and what each number is called."""
_NONE = "–"
_WIDEST = 1000  # columns
_LOOK: dict[str, Any] = {"title_justify": "left", "box": box.SIMPLE_HEAD, "pad_edge": False, "padding": (0, 1, 0, 0)}


def empty_table(title: str | Text, words: Sequence[str], numbers: Sequence[str] = ()) -> Table:
    """A table without rows: columns of words, the first of which is never broken, then columns of numbers."""
    table = Table(*words, title=title, **_LOOK)
    table.columns[0].no_wrap = True
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def print_evaluation(rows: Sequence[Mapping[str, Any]], measured_by: Mapping[str, Measures], console: Console) -> None:
    """Prints one table per task: a line per domain on all its rows, and a line of means over domains.

    Fits in 100 columns, or in 80 where some are empty, and needs no colour. A dash stands for what is not defined or not known.

    Args:
        rows: as `slices.slice_rows` gives them.
        measured_by: task -> what it is measured by.
        console: where to print.
    """
    means = summary(rows, measured_by)
    for task in dict.fromkeys(row["task"] for row in rows):
        every = [row for row in rows if row["task"] == task and row["slice"] == "all"]
        measures = measured_by[task]
        headline, others = measures.headline, [metric for metric in measures.others if metric.short]
        compared = (headline.key, measures.oracle, measures.popularity)
        cold = {r["domain"]: r.get(headline.key) for r in rows if r["task"] == task and r["slice"] == "cold_items"}
        named = ("rows", headline.short, "oracle", "popular", f"cold {headline.short}")
        names = [*named, *(metric.short for metric in others)]
        lines: list[tuple[str, list[str]]] = []
        for row in every:
            values = [*(row.get(key) for key in compared), cold.get(row["domain"])]
            cells = [*(_number(value, headline) for value in values), *(_number(row.get(m.key), m) for m in others)]
            lines.append((row["domain"], [f"{row['rows']:,}", *cells]))
        if len(every) > 1:
            mean, mean_cold = (means.get(task, {}).get(part, {}) for part in ("all", "cold_items"))
            values = [*(mean.get(key) for key in compared), mean_cold.get(headline.key)]
            cells = [_number(value, headline) for value in values]
            cells += [_number(_mean([row.get(m.key) for row in every]), m) if m.averaged else "" for m in others]
            lines.append(("mean", [f"{sum(row['rows'] for row in every):,}", *cells]))
        table = _metric_table(task, names, lines)
        needed = console.measure(table, options=console.options.update_width(_WIDEST)).minimum
        if needed > console.width:  # then columns without a number are left out
            known = [any(cells[n] not in (_NONE, "") for _, cells in lines) for n in range(len(names))]
            lines = [(domain, list(compress(cells, known))) for domain, cells in lines]
            table = _metric_table(task, list(compress(names, known)), lines)
        console.print(table)


def print_slices(
    rows: Sequence[Mapping[str, Any]],
    measured_by: Mapping[str, Measures],
    slices: Collection[str],
    console: Console,
) -> None:
    """Prints a table per task of some slices: a line per domain and slice, with the headline and what else the terminal has.

    Arguments as of `print_evaluation`, and the names of the slices.
    """
    for task in dict.fromkeys(row["task"] for row in rows if row["slice"] in slices):
        shown = [measured_by[task].headline, *(metric for metric in measured_by[task].others if metric.short)]
        table = empty_table(
            Text(f"{task}, in parts", style="bold"), ("domain", "slice"), ("rows", *(m.short for m in shown))
        )
        for row in rows:
            if row["task"] == task and row["slice"] in slices:
                cells = [_number(row.get(metric.key), metric) for metric in shown]
                table.add_row(Text(row["domain"]), Text(row["slice"]), f"{row['rows']:,}", *cells)
        console.print(table)


def _metric_table(task: str, names: Sequence[str], lines: Sequence[tuple[str, Sequence[str]]]) -> Table:
    """A line per domain, and their mean last where there are several."""
    table = Table(title=Text(task, style="bold"), **_LOOK)
    table.add_column("domain", overflow="fold", min_width=min(15, max(len(domain) for domain, _ in lines)))
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for n, (domain, cells) in enumerate(lines):
        is_mean = 0 < n == len(lines) - 1
        if is_mean:
            table.add_section()
        table.add_row(Text(domain), *cells, style="bold" if is_mean else None)
    return table


def print_next_item(
    rows: Sequence[Mapping[str, Any]], console: Console, protocol: Mapping[str, Any] | None = None
) -> None:
    """Prints where the next item was found among all items: a line per domain and slice, popularity beside the model.

    Args:
        rows: as `next_item_metrics.metric_rows` gives them.
        console: where to print.
        protocol: as of `Protocol.told`; it is told where it is not plainly all items.
    """
    apart = len({row["items"] for row in rows}) > 1  # in the title alone nobody could tell whose number it is
    numbers = ("rows", "HR@5", "HR@10", "HR@20", "NDCG@10", "MRR@10", "percentile", "popular HR@10")
    numbers = ("rows", "among", *numbers[1:]) if apart else numbers
    title = f"next item, of {items_in_words(rows)}"
    title += "" if protocol is None else f": {told_in_words(protocol)}"
    table = empty_table(Text(title, style="bold"), ("domain", "items"), numbers)
    for row in rows:
        values = [
            row[name] for name in ("hr@5", "hr@10", "hr@20", "ndcg@10", "mrr@10", "percentile", "popularity_hr@10")
        ]
        counts = [f"{row[name]:,}" for name in ("rows", *(["items"] if apart else []))]
        table.add_row(Text(row["domain"]), row["slice"].removesuffix("_items"), *counts, *map(_number, values))
    console.print(table)


def print_lists(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Prints what lists are worth as lists, a line per domain; nothing where none were made.

    Args:
        rows: as of `print_next_item`.
        console: where to print.
    """
    shown = [row for row in rows if row["slice"] == "all" and "distance@10" in row]
    if not shown:
        return
    table = empty_table(Text("lists of 10", style="bold"), ("domain",), tuple(LISTS.values()))
    for row in shown:
        table.add_row(Text(row["domain"]), *(_number(row[key]) for key in LISTS))
    console.print(table)


def _number(value: float | None, of: Metric | None = None) -> str:
    return _NONE if value is None else format(value, of.short_format if of else ".4f")


def _mean(values: Sequence[float | None]) -> float | None:
    """Over the domains that have it: a list metric exists only where there are lists."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
