"""Two models' test rows over several seeds as Markdown, and sections of a results file."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from foundrank.data.errors import UserError
from foundrank.dist.run_folder import write_text

Evaluations = Sequence[Sequence[Mapping[str, Any]]]
"""One list of rows, as in ``evaluation.json``, per seed."""

MEAN = "**mean**"
HEADER = ("domain", "test rows", "oracle", "popularity", "trees", "foundrank", "vs popularity", "vs trees", "± test")
COLD_HEADER = ("domain", "rows of cold items", "oracle", "trees", "foundrank", "vs trees", "± test")


@dataclass(frozen=True)
class Line:
    """One domain, or the mean over domains, of one task and slice.

    Attributes:
        domain: its name.
        rows: test rows.
        oracle: AUC of the true probabilities, where known.
        popularity: AUC of the popularity baseline.
        trees: AUC of the trees per seed.
        foundrank: AUC of foundrank per seed.
        test_error: half width of foundrank's 95 % interval over the choice of test rows.
    """

    domain: str
    rows: int
    oracle: float | None
    popularity: float | None
    trees: tuple[float, ...]
    foundrank: tuple[float, ...]
    test_error: float


def mean_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and half width of its 95 % interval (Student's t); None for fewer than two values."""
    if len(values) < 2:
        return float(np.mean(values)), None
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    return float(np.mean(values)), quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def difference_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float | None]:
    """Difference of means and half width of its 95 % interval (Welch, 1947); None for fewer than two values in either."""
    difference = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < 2:
        return difference, None
    a, b = (float(np.var(values, ddof=1)) / len(values) for values in (first, second))
    if a + b == 0:
        return difference, 0.0
    freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    return difference, float(stats.t.ppf(0.975, freedom)) * math.sqrt(a + b)


def auc_error(auc: float, positives: int, negatives: int) -> float:
    """Half width of a 95 % interval of one AUC over the choice of test rows.

    Source: Hanley and McNeil (1982), equation 1.
    """
    both_positive, both_negative = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = (positives - 1) * (both_positive - auc**2) + (negatives - 1) * (both_negative - auc**2)
    return 1.96 * math.sqrt((auc * (1 - auc) + spread) / (positives * negatives))


def compare(trees: Evaluations, foundrank: Evaluations, task: str, part: str) -> list[Line]:
    """A line per domain that has an AUC, and with several of them their mean.

    Args:
        trees: of every seed.
        foundrank: of every seed.
        task: its name.
        part: slice, ``all`` or ``cold_items``.

    Raises:
        UserError: the two were not measured on the same test rows.
    """

    def picked(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        return {r["domain"]: r for r in rows if r["task"] == task and r["slice"] == part and r["auc"] is not None}

    of_trees, of_foundrank = [picked(rows) for rows in trees], [picked(rows) for rows in foundrank]
    lines = []
    for domain, first in of_foundrank[0].items():
        for rows in (*of_trees, *of_foundrank):
            other = rows.get(domain, {})
            if [other.get(key) for key in ("rows", "positives")] != [first["rows"], first["positives"]]:
                raise UserError(
                    f"domain '{domain}', task '{task}', slice '{part}'",
                    "the runs were tested on different rows",
                    "The data changed under cached results: remove the --work folder and run again.",
                )
        scores = tuple(rows[domain]["auc"] for rows in of_foundrank)
        error = auc_error(float(np.mean(scores)), first["positives"], first["rows"] - first["positives"])
        baseline = tuple(rows[domain]["auc"] for rows in of_trees)
        lines.append(Line(domain, first["rows"], first["oracle_auc"], first["popularity_auc"], baseline, scores, error))
    if len(lines) > 1:
        lines.append(_mean_line(lines))
    return lines


def losses(lines: Sequence[Line]) -> list[str]:
    """Sentences naming the domains where foundrank is behind the trees or popularity."""
    out = []
    for line in lines:
        behind, half = difference_interval(line.foundrank, line.trees)
        if behind < 0:
            sure = (
                "beyond the interval over seeds" if half is not None and behind + half < 0 else "within noise of seeds"
            )
            out.append(f"{line.domain.strip('*')}: {behind:+.4f} to trees, {sure}")
        if line.popularity is not None and (gap := float(np.mean(line.foundrank)) - line.popularity) < 0:
            out.append(f"{line.domain.strip('*')}: {gap:+.4f} to popularity")
    return out


def tables(trees: Evaluations, foundrank: Evaluations) -> str:
    """For every task: all test rows, those of cold items, and where foundrank is behind."""
    parts = []
    for task in dict.fromkeys(row["task"] for row in foundrank[0]):
        lines = compare(trees, foundrank, task, "all")
        if not lines:
            continue
        parts.append(f"**{task}**, test AUC\n\n{_table(HEADER, [_all_cells(line) for line in lines])}")
        behind = losses(lines)
        parts.append(f"Behind: {'; '.join(behind)}." if behind else "Behind nowhere.")
        cold = compare(trees, foundrank, task, "cold_items")
        if cold:
            parts.append(
                f"**{task}**, test AUC on items never seen in training\n\n"
                f"{_table(COLD_HEADER, [_cold_cells(line) for line in cold])}"
            )
    return "\n\n".join(parts)


def write_section(path: Path, name: str, text: str) -> None:
    """Replaces what is between ``<!-- NAME -->`` and ``<!-- /NAME -->`` in a file, or appends it; makes the file if need be.

    Raises:
        UserError: one of the two markers is missing, or they are in the wrong order.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = path.read_text() if path.is_file() else "# Results\n"
    start, stop = old.find(begin), old.find(end)
    section = f"{begin}\n{text.strip()}\n{end}"
    if start < 0 and stop < 0:
        write_text(path, f"{old.rstrip()}\n\n{section}\n")
    elif 0 <= start < stop:
        write_text(path, old[:start] + section + old[stop + len(end) :])
    else:
        raise UserError(
            path, f"has {begin} or {end} without the other after it", "Put both markers back, or remove both."
        )


def _mean_line(lines: Sequence[Line]) -> Line:
    """Means over domains seed by seed; a reference only some domains have is left out."""

    def over(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if len(known) == len(values) else None

    return Line(
        MEAN,
        sum(line.rows for line in lines),
        over([line.oracle for line in lines]),
        over([line.popularity for line in lines]),
        tuple(float(np.mean(of_seed)) for of_seed in zip(*(line.trees for line in lines), strict=True)),
        tuple(float(np.mean(of_seed)) for of_seed in zip(*(line.foundrank for line in lines), strict=True)),
        math.sqrt(sum(line.test_error**2 for line in lines)) / len(lines),
    )


def _all_cells(line: Line) -> list[str]:
    mean, half = mean_interval(line.foundrank)
    gain = None if line.popularity is None else mean - line.popularity
    return [
        line.domain,
        f"{line.rows:,}",
        _number(line.oracle),
        _number(line.popularity),
        _with_interval(*mean_interval(line.trees)),
        _with_interval(mean, half),
        "–" if gain is None else _with_interval(gain, half, sign=True),
        _with_interval(*difference_interval(line.foundrank, line.trees), sign=True),
        f"{line.test_error:.4f}",
    ]


def _cold_cells(line: Line) -> list[str]:
    cells = _all_cells(line)
    return [cells[HEADER.index(name)] for name in ("domain", "test rows", *COLD_HEADER[2:])]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _with_interval(value: float, half: float | None, sign: bool = False) -> str:
    return f"{value:{'+' if sign else ''}.4f}" + ("" if half is None else f" ± {half:.4f}")
