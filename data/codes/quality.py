"""How well codes tell items apart, for the terminal and the report: what is in the manifests of their stores."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..config.experiment import Experiment
from .code_store import codes_folder, read_codes_manifest

_FEW = 6  # levels that are told one by one
COLUMNS = ("made by", "items", "levels", "bits used", "values without an item", "items not told apart")


def spread_over_levels(levels: list[Mapping[str, Any]]) -> tuple[str, str]:
    """Bits that items use of each level, and values that are no item's, in words."""
    used = [(level["entropy"], float(np.log2(level["values"])), level["dead"]) for level in levels]
    if len(levels) <= _FEW:
        return ", ".join(f"{bits:.1f} of {most:.1f}" for bits, most, _ in used), ", ".join(
            str(dead) for *_, dead in used
        )
    least, most = (of(bits / full for bits, full, _ in used) for of in (min, max))
    return f"{least:.0%} to {most:.0%}", f"{min(dead for *_, dead in used)} to {max(dead for *_, dead in used)}"


def code_rows(experiment: Experiment) -> list[tuple[str, ...]]:
    """Of each content that is codes and whose store is there: its name, and as of `COLUMNS`."""
    rows = []
    for of in experiment.coded():
        manifest = read_codes_manifest(codes_folder(experiment, of))
        if manifest is None:
            continue
        bits, dead = spread_over_levels(manifest["levels"])
        alike = f"{manifest['alike']:,}" + (f", up to {manifest['largest']:,} alike" if manifest["alike"] else "")
        method = str(manifest["asked"]["method"])
        rows.append((of.content, method, f"{manifest['rows']:,}", str(len(manifest["levels"])), bits, dead, alike))
    return rows
