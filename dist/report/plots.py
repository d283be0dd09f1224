"""The report's figures."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...data.config.sections.task import Measures, Metric
from ..evaluate.slices import SEEN
from .figure import (
    BLUE,
    COLOURS,
    FEW,
    GREEN,
    GREY,
    INK,
    MARKERS,
    ORANGE,
    STYLE,
    WIDTH,
    Row,
    Series,
    each_panel,
    mark,
    names,
    short,
    svg,
)

_BOUNDS: dict[str, Series] = {
    "model": ("model", "o", BLUE),
    "oracle": ("oracle", "|", GREEN),
    "popularity": ("popularity", "D", GREY),
}
By = Mapping[str, Measures]
"""Task -> what it is measured by."""


def _bounds(row: Row, by: By) -> dict[str, float]:
    """Of the series of `_BOUNDS`, the headlines that a row has."""
    measures = by[row["task"]]
    keys = {"model": measures.headline.key, "oracle": measures.oracle, "popularity": measures.popularity}
    return {series: row[key] for series, key in keys.items() if row.get(key) is not None}


def _titles(by: By) -> str:
    return " or ".join(dict.fromkeys(measures.headline.title for measures in by.values()))


@rc_context(STYLE)
def against_bounds(rows: Sequence[Row], by: By) -> str:
    """Per domain and task: the headline of the model, of the true expectation and of the popularity baseline."""
    points = {
        (r["task"], r["domain"], series): (value, _support(r, by))
        for r in rows
        if r["slice"] == "all"
        for series, value in _bounds(r, by).items()
    }
    label = f"{_titles(by)} of the model, the oracle and the popularity baseline per domain"
    return _dots(rows, points, _BOUNDS, by, label, number="model")


def _support(row: Row, by: By) -> int:
    return row.get(by[row["task"]].support.key) or 0


@rc_context(STYLE)
def warm_and_cold(rows: Sequence[Row], by: By) -> str:
    """Per domain and task: the model's headline on warm items, cold items and cold users."""
    keys = {
        "warm_items": ("warm items", "o", BLUE),
        "cold_items": ("cold items", "D", ORANGE),
        "cold_users": ("cold users", "^", GREEN),
    }
    points = {
        (r["task"], r["domain"], r["slice"]): (bounds["model"], _support(r, by))
        for r in rows
        if r["slice"] in keys and "model" in (bounds := _bounds(r, by))
    }
    return _dots(rows, points, keys, by, f"{_titles(by)} on warm items, cold items and cold users per domain")


@rc_context(STYLE)
def by_count(rows: Sequence[Row], by: By) -> str:
    """Per task: the headline against how often the item was seen in training, a thin line per domain and their mean."""
    slices = {"cold_items": "never", **{name: name.removeprefix("items_seen_").replace("_", " ") for name in SEEN}}
    bounds = {(r["task"], r["domain"], r["slice"]): _bounds(r, by) for r in rows if r["slice"] in slices}
    found = {key: values for key, values in bounds.items() if "model" in values}
    tasks = names(rows, "task")
    columns = min(2, len(tasks))
    figure = Figure((WIDTH, math.ceil(len(tasks) / columns) * 2.6 + 0.35), layout="constrained")
    for axes, task in each_panel(figure.subplots(math.ceil(len(tasks) / columns), columns, squeeze=False), tasks):
        for domain in names(rows, "domain"):
            line = [found.get((task, domain, part), {}).get("model", math.nan) for part in slices]
            axes.plot(line, color=GREY, alpha=0.5, linewidth=1)
        for key, (_, marker, colour) in _BOUNDS.items():
            of_part = [
                [b.get(key, math.nan) for (t, _, s), b in found.items() if (t, s) == (task, part)] for part in slices
            ]
            means = [np.mean(values) if values else math.nan for values in of_part]
            axes.plot(means, linewidth=1.5, **mark(marker, colour))
        axes.set(title=task, ylabel=by[task].headline.title, xlabel="times the item was seen in training")
        axes.set_xticks(range(len(slices)), list(slices.values()))
    handles = [Line2D([], [], label=f"{name}, mean of domains", **mark(*look)) for name, *look in _BOUNDS.values()]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handletextpad=0.4)
    return svg(figure, f"{_titles(by)} by how often the item was seen in training")


def _dots(
    rows: Sequence[Row],
    points: Mapping[tuple[str, str, str], tuple[float, int]],
    keys: Mapping[str, Series],
    by: By,
    label: str,
    number: str = "",
) -> str:
    """A panel per task, a line per domain, a mark per key: ``points`` maps (task, domain, key) to a headline and its support.

    ``number`` is the key whose values are also written out.
    """
    keys = {key: look for key, look in keys.items() if any(key == of for _, _, of in points)}
    domains, tasks = names(rows, "domain"), names(rows, "task")
    columns = min(2, len(tasks))
    lines = math.ceil(len(tasks) / columns)
    figure = Figure((WIDTH, lines * (0.3 * len(domains) + 0.75) + 0.35), layout="constrained")
    for axes, task in each_panel(figure.subplots(lines, columns, squeeze=False, sharey=True), tasks):
        for place, domain in enumerate(domains):
            found = {key: points[task, domain, key] for key in keys if (task, domain, key) in points}
            values = [value for value, _ in found.values()]
            axes.plot(values, [place] * len(values), color=GREY, alpha=0.45, linewidth=1.5, zorder=1)
            for key, (value, support) in found.items():
                _, marker, colour = keys[key]
                axes.plot(value, place, **mark(marker, colour), fillstyle="full" if support >= FEW else "none")
                if key == number:
                    axes.annotate(f"{value:.3f}", (1.01, place), xycoords=("axes fraction", "data"), va="center")
        axes.set(title=task, xlabel=by[task].headline.title, ylim=(len(domains) - 0.5, -0.5))
        axes.set_yticks(range(len(domains)), [short(d, 28) for d in domains])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.06)
    handles = [Line2D([], [], linestyle="", label=name, **mark(*look)) for name, *look in keys.values()]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(keys), handletextpad=0.2)
    return svg(figure, label)


@rc_context(STYLE)
def total_loss(metrics: Sequence[Row]) -> str:
    """The training loss and its alignment part, over steps."""
    figure = Figure((WIDTH, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    _curve(left, metrics, lambda r: r.get("loss"), "loss, total")
    _curve(right, metrics, lambda r: r.get("alignment"), "alignment penalty")
    return svg(figure, "Training loss over steps")


@rc_context(STYLE)
def domain_losses(metrics: Sequence[Row]) -> str:
    """One small panel per domain and task: its training loss, each with its own scale."""
    # A batch may lack a domain: the fullest line has the names in the experiment's order.
    fullest_first = sorted(metrics, key=lambda row: -len(row.get("losses") or {}))
    names = dict.fromkeys(name for row in fullest_first for name in row.get("losses") or {})
    panels = {name: lambda row, name=name: (row.get("losses") or {}).get(name) for name in names}
    return _small_panels(metrics, panels, "Training loss per domain and task")


@rc_context(STYLE)
def speed(metrics: Sequence[Row]) -> str:
    """Throughput, share of time waiting for data, gradient norm and learning rates, over steps."""
    panels: dict[str, Callable[[Row], Any]] = {
        "samples per second": lambda r: r.get("samples_per_s"),
        "waiting for data, % of time": lambda r: (
            None if r.get("data_wait_share") is None else 100 * r["data_wait_share"]
        ),
        "gradient norm": lambda r: r.get("gradient_norm"),
        "learning rate, dense part": lambda r: r.get("lr"),
    }
    return _small_panels(metrics, panels, "Speed and optimisation over steps", from_zero=True)


def _small_panels(
    metrics: Sequence[Row], panels: Mapping[str, Callable[[Row], Any]], label: str, from_zero: bool = False
) -> str:
    columns = min(4, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = Figure((WIDTH, 1.6 * lines + 0.2), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True)
    for place, (axes, name) in enumerate(each_panel(grid, list(panels))):
        _curve(axes, metrics, panels[name], short(name, 27))
        axes.locator_params(nbins=4)
        if place < len(panels) - columns:
            axes.set_xlabel("")
        if from_zero:
            axes.set_ylim(bottom=0)
    return svg(figure, label)


@rc_context(STYLE)
def validation_curves(rows: Sequence[Row], headlines: Mapping[str, Metric]) -> str:
    """Per task: each domain's headline on the validation split after each epoch, and their mean."""
    rows = [r for r in rows if r.get("slice", "all") == "all" and r.get(headlines[r["task"]].key) is not None]
    domains, tasks = names(rows, "domain"), names(rows, "task")
    columns = min(2, len(tasks))
    lines = math.ceil(len(tasks) / columns)
    height = max(2.8, 0.2 * len(domains) + 1)
    figure = Figure((WIDTH, lines * height), layout="constrained")
    for axes, task in each_panel(figure.subplots(lines, columns, squeeze=False), tasks):
        metric, label, ends = headlines[task].key, headlines[task].title, []
        for place, domain in enumerate(domains):
            points = sorted((r["epoch"], r[metric]) for r in rows if r["task"] == task and r["domain"] == domain)
            if points:
                colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
                axes.plot(*zip(*points, strict=True), marker=marker, markersize=4.5, color=colour, linewidth=1.5)
                ends.append((points[-1], short(domain, 22), colour))
        epochs = sorted({r["epoch"] for r in rows if r["task"] == task})
        means = [np.mean([r[metric] for r in rows if r["task"] == task and r["epoch"] == e]) for e in epochs]
        axes.plot(epochs, means, color=INK, linewidth=2.4, linestyle=(0, (4, 2)))
        ends.append(((epochs[-1], means[-1]), "mean", INK))
        axes.set(title=task, xlabel="epoch", ylabel=label)
        if len(epochs) <= 12:
            axes.set_xticks(epochs, [f"{e:g}" for e in epochs])
        axes.margins(x=0.04 if len(epochs) > 1 else 1)
        _label_ends(axes, ends, gap=0.17 / (height - 0.8))
    label = " or ".join(dict.fromkeys(headline.title for headline in headlines.values()))
    return svg(figure, f"Validation {label} per epoch, domain and task")


def _label_ends(axes: Axes, ends: Sequence[tuple[tuple[float, float], str, str]], gap: float) -> None:
    """Names at the right ends of lines, moved apart until they are ``gap`` of the axes' height from each other."""
    ends = sorted(ends, key=lambda end: end[0][1])
    low, high = axes.get_ylim()
    places = [(value - low) / (high - low) for (_, value), _, _ in ends]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    if places[-1] > 1:
        places[-1] = 1.0
        for i in range(len(places) - 2, -1, -1):
            places[i] = min(places[i], places[i + 1] - gap)
    for place, (point, name, colour) in zip(places, ends, strict=True):
        axes.annotate(
            name, point, (1.06, place), textcoords="axes fraction", va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.6, "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)},
        )  # fmt: skip


def _curve(axes: Axes, metrics: Sequence[Row], value: Callable[[Row], Any], title: str) -> None:
    """The logged values, faint, and their moving mean."""
    points = [(r["step"], v) for r in metrics if (v := value(r)) is not None and math.isfinite(v)]
    axes.set_title(title)
    axes.set_xlabel("step")
    if not points:
        axes.text(0.5, 0.5, "none logged", ha="center", va="center", transform=axes.transAxes)
        return
    steps, values = _thin(np.array(points, dtype=np.float64), most=400).T
    window = max(1, len(values) // 25) | 1
    kernel = np.ones(window)
    smooth = np.convolve(values, kernel, "same") / np.convolve(np.ones_like(values), kernel, "same")
    axes.plot(steps, values, color=BLUE, alpha=0.3, linewidth=0.8)
    axes.plot(steps, smooth, color=BLUE, linewidth=1.8, marker="o" if len(values) == 1 else "")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    low, high = np.percentile(values, (0, 99))
    if high > low:  # the first steps' values would squeeze the rest
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    if high >= 10_000:
        axes.yaxis.set_major_formatter("{x:,.0f}")


def _thin(points: np.ndarray, most: int) -> np.ndarray:
    """``[N, 2]`` points, at most ``most`` of them: means of neighbours."""
    step = math.ceil(len(points) / most)
    starts = np.arange(0, len(points), step)
    return np.add.reduceat(points, starts) / np.diff(starts, append=len(points))[:, None]
