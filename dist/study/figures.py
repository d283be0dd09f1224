"""The figures of the study's report."""

import math
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...data.storage.local_writes import replace_file
from .arms import FRACTIONS, FULL, ID_ONLY, LINES
from .measured import MeasuredLabels


def fraction_figure(found: MeasuredLabels, path: Path) -> None:
    """AUC in the new domain against the share of its rows."""
    figure = Figure((7, 4), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(LINES):
        points = [(f, arm.new_domain) for f in FRACTIONS if (arm := found.of_share(name, f)) is not None]
        if points:
            x, of_arm = zip(*points, strict=True)
            means, errors = zip(*of_arm, strict=True)
            shift = 1 + 0.03 * (number - 2)  # so that bars do not hide each other
            axes.errorbar(
                [f * shift * 100 for f in x],
                means,
                np.nan_to_num(errors),
                label=name,
                marker="osD^vP"[number],
                capsize=2,
            )
    axes.set(
        xscale="log",
        xlabel=f"share of {found.new_domain}'s training rows, %",
        ylabel=f"test AUC in {found.new_domain}",
        title=found.data,
    )
    axes.set_xticks([f * 100 for f in FRACTIONS], [f"{f:.0%}" for f in FRACTIONS])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    _write(figure, path)


def count_figure(found: MeasuredLabels, path: Path) -> None:
    """AUC against how often training has seen the item."""
    seen = list(found.arms[FULL].seen)
    figure = Figure((7, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, marker in ((FULL, "o"), ("gate: domain_count_gate", "D"), ("ids from texts", "^"), (ID_ONLY, "s")):
        if name in found.arms:
            of_arm = [found.arms[name].seen.get(times, (math.nan, math.nan)) for times in seen]
            axes.errorbar(
                range(len(seen)),
                [mean for mean, _ in of_arm],
                np.nan_to_num([error for _, error in of_arm]),
                label=name,
                marker=marker,
                capsize=2,
            )
    oracle = [found.oracle.seen.get(times, math.nan) for times in seen]
    if not all(map(math.isnan, oracle)):
        axes.plot(oracle, color="black", linestyle=":", label="true probabilities")
    axes.set(xlabel="times the item was seen in training", ylabel="test AUC, mean of domains and tasks")
    axes.set_xticks(range(len(seen)), seen)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    """As a whole: a study draws again while it trains, and may be stopped at any time."""
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    replace_file(path, drawn.getvalue())
