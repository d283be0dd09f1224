"""How the report's figures look: inline SVG that takes its ink, its fonts and its paper from the page around it."""

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from ...data.escaping import visible

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
FEW = 50  # positives, or what else a headline rests on, below which it is a rough estimate
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "text.usetex": False,  # of what the working folder's matplotlibrc may say, the one that starts a program
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


def mark(marker: str, colour: str) -> dict[str, Any]:
    """Options of `plot` for points of one look."""
    size = {"markersize": 12, "markeredgewidth": 2.5} if marker == "|" else {"markersize": 6.5}
    return {"marker": marker, "color": colour, **size}


def each_panel(grid: np.ndarray, titles: Sequence[str]):
    """Pairs of axes and name; hides the axes left over."""
    for axes in grid.flat[len(titles) :]:
        axes.set_visible(False)
    for above, below in itertools.pairwise(grid):
        for upper, lower in zip(above, below, strict=True):
            if not lower.get_visible():  # the last of its column keeps the numbers of a shared axis
                upper.tick_params(labelbottom=True)
    return zip(grid.flat, titles, strict=False)


def names(rows: Sequence[Row], key: str) -> list[str]:
    """The distinct values of a key, in order."""
    return list(dict.fromkeys(row[key] for row in rows))


def short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


def svg(figure: Figure, label: str) -> Markup:
    """An ``<svg>`` element for the middle of a page: no size of its own, no reference outside, ids of its own."""
    out = io.StringIO()
    figure.savefig(
        out, format="svg", transparent=True, metadata={k: None for k in ("Creator", "Date", "Format", "Type")}
    )
    text = visible(out.getvalue(), keep="\n\t")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)  # a page's own parser knows them
    prefix = re.sub(r"\W+", "-", label.lower())
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    size = re.search(r'<svg width="[^"]*" height="[^"]*"', text)
    assert size is not None
    opening = f'<svg role="img" aria-label="{escape(visible(label))}"'
    return Markup(text.replace(size.group(), opening, 1).replace(INK, "currentColor"))
