"""What a preference alignment has changed, on the page of its run."""

from collections.abc import Sequence
from typing import Any

from . import page as html


def alignment(told: dict[str, Any]) -> Sequence[str]:
    """A table of what was measured before and after, and a line about how; nothing where a run is not aligned."""
    rows = []
    for row in told["measures"]:
        interval = "–" if row["low"] is None else f"{row['low']:+.4f} to {row['high']:+.4f}"
        cells = [row["measure"], html.count(row["rows"]), html.number(row["before"]), html.number(row["after"])]
        change = "–" if row["difference"] is None else f"{row['difference']:+.4f}"
        rows.append([row["domain"], *cells, change, interval])
    header = ("domain", "measure", "rows", "before", "after", "difference", "95 % interval")
    words = (
        f"The generator {told['run']} before and after learning from the reward {told['reward']}: means over rows of the {told['split']} split, "
        "of lists of the best ten items; intervals are over users."
    )
    return [html.table("Preference alignment", header, rows), html.paragraph(words, "faint")]

