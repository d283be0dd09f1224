"""What a preference alignment has changed, on the page of its run."""

from pathlib import Path

from ..run.run_documents import Alignment
from ..run.run_folder import ALIGNMENT, read_json
from . import page as html


def alignment(run: Path) -> dict[str, tuple[str, list[str]]]:
    """The section of the page, by its anchor: what was measured before and after, and how; none where a run is not aligned."""
    told = read_json(run / ALIGNMENT, Alignment, {})
    if not told:
        return {}
    rows = []
    for row in told["measures"]:
        ends = [row.get(name) for name in ("difference", "low", "high")]
        change = [f"{ends[0]:+.4f}", f"{ends[1]:+.4f} to {ends[2]:+.4f}"] if None not in ends else ["–", "–"]
        means = [html.number(row.get(name)) for name in ("before", "after")]
        rows.append([row["domain"], row["measure"], html.count(row["rows"]), *means, *change])
    header = ("domain", "measure", "rows", "before", "after", "difference", "95 % interval")
    words = (
        f"The generator {told['run']} before and after it learnt from the reward {told['reward']}: means over rows of the {told['split']} split, "
        "of lists of the best ten items; intervals are over users."
    )
    return {"aligned": ("Preference alignment", [html.table("Measured", header, rows), html.paragraph(words, "faint")])}
