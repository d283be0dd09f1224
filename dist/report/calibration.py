"""The report's figure of what was predicted and what came of it."""

import math
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from .figure import COLOURS, GREY, MARKERS, STYLE, WIDTH, Row, each_panel, names, short, svg


def with_deciles(rows: Sequence[Row]) -> list[Row]:
    """The rows of whole domains whose kind of task tells mean score and mean label of each tenth."""
    return [row for row in rows if row["slice"] == "all" and row.get("deciles")]


@rc_context(STYLE)
def by_decile(rows: Sequence[Row]) -> str:
    """Per task: mean label against mean prediction of each tenth of a domain's rows; on the dashed line they are the same.

    Args:
        rows: of `with_deciles`, at least one.
    """
    tasks, domains = names(rows, "task"), names(rows, "domain")
    columns = min(2, len(tasks))
    lines = math.ceil(len(tasks) / columns)
    figure = Figure((WIDTH, lines * 3.4 + 0.2 + 0.2 * math.ceil(len(domains) / 5)), layout="constrained")
    handles = {}
    for axes, task in each_panel(figure.subplots(lines, columns, squeeze=False), tasks):
        of_task = [row for row in rows if row["task"] == task]
        values = [value for row in of_task for pair in row["deciles"] for value in pair]
        ends = [min(values), max(values)]
        axes.plot(ends, ends, color=GREY, linestyle=(0, (4, 2)), linewidth=1.2)
        for row in of_task:
            place = domains.index(row["domain"])
            look = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "markersize": 4.5}
            (handles[short(row["domain"], 28)],) = axes.plot(*zip(*row["deciles"], strict=True), linewidth=1.2, **look)
        axes.set(title=task, xlabel="mean prediction", ylabel="mean label")
    figure.legend(handles.values(), handles, loc="outside upper left", ncols=min(5, len(handles)))
    return svg(figure, "Mean label against mean prediction, by tenths of the rows")
