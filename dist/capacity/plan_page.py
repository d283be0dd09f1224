"""The page `foundrank plan --report` writes: bytes and load, rank by rank."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ...data.config.experiment import Experiment
from ...data.storage.local_writes import write_text
from ..report import page as html
from ..report.figure import GREY, STYLE, WIDTH, short, svg
from .cluster import Cluster
from .footprint import Footprint

_GIB = 2**30
_MOST_TABLES = 24


def write_plan(
    path: Path, experiment: Experiment, cluster: Cluster, found: Footprint, step_ms: Mapping[str, float]
) -> None:
    """Writes the page, whole or not at all.

    Args:
        path: of the page.
        experiment: what is trained.
        cluster: on what.
        found: what each rank holds.
        step_ms: part of a step -> milliseconds.
    """
    total = found.total
    facts = [
        ("ranks", f"{cluster.world_size} x {cluster.device}"),
        ("memory of each", f"{cluster.ranks.bytes / _GIB:.1f} GiB"),
        ("fullest rank", f"{total.max() / _GIB:.3f} GiB"),
        ("least full", f"{total.min() / _GIB:.3f} GiB"),
        ("a step, at best", f"{sum(step_ms.values()):.2f} ms"),
    ]
    parts = [[name, f"{held.max() / _GIB:.3f}", f"{held.mean() / _GIB:.3f}"] for name, held in found.bytes.items()] + [
        ["all", f"{total.max() / _GIB:.3f}", f"{total.mean() / _GIB:.3f}"]
    ]
    words = (
        "Bytes (weights and optimizer) and load (lookups, updates and exchange of a step) of each table on each rank; "
        "the last line is the sum. White: nothing there."
    )
    steps = [[name, f"{ms:.3f}"] for name, ms in step_ms.items()]
    sections = {
        "ranks": ("Tables and ranks", html.figure(heat_map(found), words)),
        "memory": ("Memory", html.table("GiB per rank", ["part", "fullest rank", "mean"], parts)),
        "step": ("A step, at best", html.table("ms", ["part", "ms"], steps)),
    }
    write_text(path, html.page("plan.html", title=f"{experiment.name}: plan", facts=facts, sections=sections))


def heat_map(found: Footprint) -> str:
    """Two panels, bytes and load: a line per table, the largest first, and their sum; a column per rank."""
    largest = sorted(found.tables, key=lambda name: -found.tables[name].weights.sum())[:_MOST_TABLES]
    biggest = max(found.bytes["tables"].max(), found.bytes["table optimizer"].max())
    unit, scale = ("GiB", 2**30) if biggest >= 2**30 else ("MiB", 2**20)
    held = np.stack([found.tables[n].weights + found.tables[n].states for n in largest]) / scale
    load = np.stack([found.tables[n].ms for n in largest])
    names = [f"{short(n, 24)} ({found.tables[n].kind.replace('_', ' ')})" for n in largest] + ["all tables"]
    everything = found.tables.values()
    sums = [np.sum([t.weights + t.states for t in everything], 0) / scale, np.sum([t.ms for t in everything], 0)]
    with mpl.rc_context(STYLE):
        figure = Figure((WIDTH, 1.1 + 0.28 * len(names)), layout="constrained")
        for axes, cells, last, title in zip(
            figure.subplots(1, 2, sharey=True),
            (held, load),
            sums,
            (f"{unit}: weights and optimizer", "ms of a step"),
            strict=True,
        ):
            every = np.vstack([cells, last])
            lines, columns = np.arange(every.shape[0]), np.arange(every.shape[1])
            image = axes.pcolormesh(columns, lines, np.ma.masked_equal(every, 0), cmap="viridis_r", vmin=0)
            figure.colorbar(image, ax=axes)
            axes.set(title=title, xlabel="rank", yticks=lines, yticklabels=names)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.axhline(len(names) - 1.5, color=GREY, linewidth=1)
            axes.grid(False)
        axes.invert_yaxis()  # both panels share it
        return svg(figure, "bytes and load of each table on each rank")
