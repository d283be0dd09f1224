"""The report's figures, as inline SVG that takes its ink, its fonts and its paper from the page around it."""

import html
import io
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Row = Mapping[str, Any]
Series = tuple[str, str, str]  # label, marker, colour

# A colour no figure uses otherwise; it becomes the page's text colour, light or dark.
INK = "#010203"
GREY = "#8b929c"
# Told apart with any kind of colour vision (after Okabe and Ito, 2008), and readable on white and on near-black.
BLUE, ORANGE, GREEN = "#1a7fc9", "#d97706", "#0f9d76"
COLOURS = (BLUE, ORANGE, GREEN, "#c85c9b", "#6aaedd", "#b5a11c", "#8a6fd1", GREY)
MARKERS = "osD^vPX*"
WIDTH = 10.4  # inches
FEW = 50  # positives below which an AUC is a rough estimate
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "foundrank",
}


@rc_context(STYLE)
def auc_against_bounds(rows: Sequence[Row]) -> str:
    """Per domain and task: the model's AUC, the true probability's and the popularity baseline's."""
    keys = {
        "auc": ("model", "o", BLUE),
        "oracle_auc": ("oracle", "|", GREEN),
        "popularity_auc": ("popularity", "D", GREY),
    }
    points = {
        (r["task"], r["domain"], key): (r[key], r["positives"])
        for r in rows
        for key in keys
        if r["slice"] == "all" and r.get(key) is not None
    }
    return _dots(
        rows, points, keys, "AUC of the model, the oracle and the popularity baseline per domain", number="auc"
    )


@rc_context(STYLE)
def warm_and_cold(rows: Sequence[Row]) -> str:
    """Per domain and task: the model's AUC on warm items, cold items and cold users."""
    keys = {
        "warm_items": ("warm items", "o", BLUE),
        "cold_items": ("cold items", "D", ORANGE),
        "cold_users": ("cold users", "^", GREEN),
    }
    points = {
        (r["task"], r["domain"], r["slice"]): (r["auc"], r["positives"])
        for r in rows
        if r["slice"] in keys and r["auc"] is not None
    }
    return _dots(rows, points, keys, "AUC on warm items, cold items and cold users per domain")


def _dots(
    rows: Sequence[Row],
    points: Mapping[tuple[str, str, str], tuple[float, int]],
    keys: Mapping[str, Series],
    label: str,
    number: str = "",
) -> str:
    """A panel per task, a line per domain, a mark per key: ``points`` maps (task, domain, key) to AUC and positives.

    ``number`` is the key whose values are also written out.
    """
    keys = {key: look for key, look in keys.items() if any(key == of for _, _, of in points)}
    domains, tasks = _names(rows, "domain"), _names(rows, "task")
    columns = min(2, len(tasks))
    lines = math.ceil(len(tasks) / columns)
    figure = Figure((WIDTH, lines * (0.3 * len(domains) + 0.75) + 0.35), layout="constrained")
    for axes, task in _panels(figure.subplots(lines, columns, squeeze=False, sharey=True), tasks):
        for place, domain in enumerate(domains):
            found = {key: points[task, domain, key] for key in keys if (task, domain, key) in points}
            values = [value for value, _ in found.values()]
            axes.plot(values, [place] * len(values), color=GREY, alpha=0.45, linewidth=1.5, zorder=1)
            for key, (value, positives) in found.items():
                _, marker, colour = keys[key]
                axes.plot(value, place, **_mark(marker, colour), fillstyle="full" if positives >= FEW else "none")
                if key == number:
                    axes.annotate(f"{value:.3f}", (1.01, place), xycoords=("axes fraction", "data"), va="center")
        axes.set(title=task, xlabel="AUC", ylim=(len(domains) - 0.5, -0.5))
        axes.set_yticks(range(len(domains)), [_short(d, 28) for d in domains])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.06)
    handles = [Line2D([], [], linestyle="", label=name, **_mark(*look)) for name, *look in keys.values()]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(keys), handletextpad=0.2)
    return _svg(figure, label)


def _mark(marker: str, colour: str) -> dict[str, Any]:
    size = {"markersize": 12, "markeredgewidth": 2.5} if marker == "|" else {"markersize": 6.5}
    return {"marker": marker, "color": colour, **size}


@rc_context(STYLE)
def total_loss(metrics: Sequence[Row]) -> str:
    """The training loss and its alignment part, over steps."""
    figure = Figure((WIDTH, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    _curve(left, metrics, lambda r: r.get("loss"), "loss, total")
    _curve(right, metrics, lambda r: r.get("alignment"), "alignment penalty")
    return _svg(figure, "Training loss over steps")


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
    for place, (axes, name) in enumerate(_panels(grid, list(panels))):
        _curve(axes, metrics, panels[name], _short(name, 27))
        axes.locator_params(nbins=4)
        if place < len(panels) - columns:
            axes.set_xlabel("")
        if from_zero:
            axes.set_ylim(bottom=0)
    return _svg(figure, label)


@rc_context(STYLE)
def validation_curves(rows: Sequence[Row]) -> str:
    """Per task: each domain's AUC on the validation split after each epoch, and their mean."""
    rows = [r for r in rows if r.get("slice", "all") == "all" and r.get("auc") is not None]
    domains, tasks = _names(rows, "domain"), _names(rows, "task")
    columns = min(2, len(tasks))
    lines = math.ceil(len(tasks) / columns)
    height = max(2.8, 0.2 * len(domains) + 1)
    figure = Figure((WIDTH, lines * height), layout="constrained")
    for axes, task in _panels(figure.subplots(lines, columns, squeeze=False), tasks):
        ends = []
        for place, domain in enumerate(domains):
            points = sorted((r["epoch"], r["auc"]) for r in rows if r["task"] == task and r["domain"] == domain)
            if points:
                colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
                axes.plot(*zip(*points, strict=True), marker=marker, markersize=4.5, color=colour, linewidth=1.5)
                ends.append((points[-1], _short(domain, 22), colour))
        epochs = sorted({r["epoch"] for r in rows if r["task"] == task})
        means = [np.mean([r["auc"] for r in rows if r["task"] == task and r["epoch"] == e]) for e in epochs]
        axes.plot(epochs, means, color=INK, linewidth=2.4, linestyle=(0, (4, 2)))
        ends.append(((epochs[-1], means[-1]), "mean", INK))
        axes.set(title=task, xlabel="epoch", ylabel="AUC")
        if len(epochs) <= 12:
            axes.set_xticks(epochs, [f"{e:g}" for e in epochs])
        axes.margins(x=0.04 if len(epochs) > 1 else 1)
        _label_ends(axes, ends, gap=0.17 / (height - 0.8))
    return _svg(figure, "Validation AUC per epoch, domain and task")


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


def _panels(grid: np.ndarray, names: Sequence[str]):
    """Pairs of axes and name; hides the axes left over."""
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for above, below in itertools.pairwise(grid):
        for upper, lower in zip(above, below, strict=True):
            if not lower.get_visible():  # the last of its column keeps the numbers of a shared axis
                upper.tick_params(labelbottom=True)
    return zip(grid.flat, names, strict=False)


def _names(rows: Sequence[Row], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


def _svg(figure: Figure, label: str) -> str:
    """An ``<svg>`` element for the middle of a page: no size of its own, no reference outside, ids of its own."""
    out = io.StringIO()
    figure.savefig(
        out, format="svg", transparent=True, metadata={k: None for k in ("Creator", "Date", "Format", "Type")}
    )
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)  # a page's own parser knows them
    prefix = re.sub(r"\W+", "-", label.lower())
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    size = re.search(r'<svg width="[^"]*" height="[^"]*"', text)
    assert size is not None
    opening = f'<svg role="img" aria-label="{html.escape(label)}"'
    return text.replace(size.group(), opening, 1).replace(INK, "currentColor")
