"""The part of the study's report that is on finding the next item."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .arms import FULL, Arm, DataSet
from .directions import PAPER, Verdicts, interval
from .next_item import NDCG, PERCENTILE, Found, gap, read_found


def next_item_section(
    data: DataSet, every: Sequence[Arm], out: Path, paper: Verdicts, verdicts: Verdicts
) -> str | None:
    """Markdown of one data set; None where the full model is not done.

    Args:
        data: the data set.
        every: its arms.
        out: the study's folder.
        paper: takes what the data set says of the paper's directions.
        verdicts: takes what each part brings.
    """
    found = read_found(data, every, out)
    if FULL not in found:
        return None
    full = found[FULL]
    lines = [
        "| | rate | NDCG@10 | full model's lead | cold items: percentile | full model's lead | cold items: NDCG@10 |"
    ]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, of_arm in found.items():
        cold = _cold(of_arm)
        means = [of_arm.mean(NDCG, _all(of_arm)), of_arm.mean(PERCENTILE, cold), of_arm.mean(NDCG, cold)]
        ndcg, percentile, cold_ndcg = (f"{value:.4f}" for value in means)
        if name == FULL:
            lines.append(f"| {name} | {of_arm.rate:g} | {ndcg} | | {percentile} | | {cold_ndcg} |")
            continue
        gaps = gap(full, of_arm, NDCG, _all), gap(full, of_arm, PERCENTILE, _cold)
        leads = [interval(one) for one in gaps]
        lines.append(f"| {name} | {of_arm.rate:g} | {ndcg} | {leads[0]} | {percentile} | {leads[1]} | {cold_ndcg} |")
        for rows, one in zip(("all rows", "cold items"), gaps, strict=True):
            verdicts.setdefault(f"full model > {name}, {rows}", {})[data.name] = one
    for one in PAPER:
        if one.first in found and one.second in found:
            on_cold = one.rows == "cold items"
            asked = (PERCENTILE, _cold) if on_cold else (NDCG, _all)
            paper.setdefault(one.said, {})[data.name] = gap(found[one.first], found[one.second], *asked)
    cold = int(_cold(full).sum())
    told = f"{len(full.users):,} test rows, {cold:,} of items that training has not seen. Candidates are all items of the catalog."
    return "\n\n".join([f"## {data.name}", told, "\n".join(lines)])


def _all(found: Found) -> NDArray[np.bool_]:
    return np.ones(len(found.users), bool)


def _cold(found: Found) -> NDArray[np.bool_]:
    return found.item_counts == 0
