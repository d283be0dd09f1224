"""What the paper says, asked of each data set: one arm ahead of another, on some rows; and whether it held."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .arms import ALL_DOMAINS, FULL, SINGLE
from .measured import Gap

TOLD = (ALL_DOMAINS, "fine-tuned full", "fine-tuned L0+L1 frozen")
"""Of what is tried with shares of the new domain, what is asked to be ahead of that domain alone."""


@dataclass(frozen=True)
class Direction:
    """That one arm is ahead of another.

    Attributes:
        said: in the paper.
        first, second: arms.
        rows: ``all``, ``cold items``, or ``new domain``.
    """

    said: str
    first: str
    second: str
    rows: str = "all"


PAPER = (
    Direction("the domain gate is ahead of mean pooling", FULL, "gate: mean"),
    Direction("the language model's texts are ahead of random ones", FULL, "text: random"),
    Direction("random texts are ahead of none", "text: random", "text: none"),
    Direction("on cold items, the language model's texts are ahead of random ones", FULL, "text: random", "cold items"),
    Direction("on cold items, the language model's texts are ahead of none", FULL, "text: none", "cold items"),
    Direction("MMoE with Jensen-Shannon is ahead of MMoE with MMD", FULL, "alignment: mmd"),
    Direction("MMoE with MMD is ahead of MMoE alone", "alignment: mmd", "alignment: none"),
    Direction("MMoE is ahead of a shared bottom", "alignment: none", "head: shared_bottom, alignment: none"),
    *(
        Direction(
            f"pretrained and fine-tuned is ahead of one domain, with {share} of its rows",
            f"fine-tuned full, {share}",
            f"{SINGLE}, {share}",
            "new domain",
        )
        for share in ("1%", "5%", "20%", "100%")
    ),
    *(
        Direction(
            f"L0 and L1 frozen are ahead of full fine-tuning, with {share} of the rows",
            f"fine-tuned L0+L1 frozen, {share}",
            f"fine-tuned full, {share}",
            "new domain",
        )
        for share in ("1%", "5%", "20%")
    ),
)
"""Directions of the S&R Multi-Domain Foundation (2025) that public data can test."""


def table(verdicts: Mapping[str, Mapping[str, Gap]]) -> str:
    """Markdown of data set -> direction -> difference: whether each direction holds on each data set, and by how much."""
    lines = ["| direction | " + " | ".join(verdicts) + " |", "| --- |" + " --- |" * len(verdicts)]
    # Each once, in the order of the first data set that has it.
    for direction in dict.fromkeys(said for of_data in verdicts.values() for said in of_data):
        cells = []
        for of_data in verdicts.values():
            gap = of_data.get(direction, (math.nan,) * 3)
            word = "–" if math.isnan(gap[0]) else "holds" if gap[1] > 0 else "reversed" if gap[2] < 0 else "undecided"
            cells.append(word if word == "–" else f"{word}, {gap[0]:+.4f}".replace("-", "−"))
        lines.append(f"| {direction} | {' | '.join(cells)} |")
    return "\n".join(lines)


def interval(gap: Gap) -> str:
    """A difference with its interval, as in tables; a dash for none."""
    if math.isnan(gap[0]):
        return "–"
    mean, low, high = (f"{value:+.4f}".replace("-", "−") for value in gap)
    return f"{mean} [{low}, {high}]"
