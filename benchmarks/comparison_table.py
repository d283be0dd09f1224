"""Two models' test rows over several seeds as Markdown, and sections of a results file."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from foundrank.data.errors import UserError
from foundrank.dist.compare.intervals import MEAN, TestRows, difference_intervals

Evaluations = Sequence[Sequence[Mapping[str, Any]]]
"""One list of rows, as in ``evaluation.json``, per seed."""

Interval = tuple[float, float]

HEADER = ("domain", "test rows", "oracle", "popularity", "trees", "foundrank", "vs popularity", "vs trees")
COLD_HEADER = ("domain", "rows of cold items", "oracle", "trees", "foundrank", "vs trees")


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
        interval: ends of the 95 % interval of foundrank's lead over the trees, over test users and seeds.
    """

    domain: str
    rows: int
    oracle: float | None
    popularity: float | None
    trees: tuple[float, ...]
    foundrank: tuple[float, ...]
    interval: Interval

    @property
    def lead(self) -> float:
        """Mean AUC of foundrank minus that of the trees."""
        return float(np.mean(self.foundrank) - np.mean(self.trees))


def mean_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and half width of its 95 % interval (Student's t); None for fewer than two values."""
    if len(values) < 2:
        return float(np.mean(values)), None
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    return float(np.mean(values)), quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def compare(
    trees: Evaluations, foundrank: Evaluations, tests: Mapping[str, TestRows], task: str, part: str
) -> list[Line]:
    """A line per domain that has an AUC, and with several of them their mean.

    Args:
        trees: of every seed.
        foundrank: of every seed.
        tests: domain -> the task's test rows as foundrank (first) and the trees (second) see them.
        task: its name.
        part: slice, ``all`` or ``cold_items``.

    Raises:
        UserError: the two were not measured on the same test rows.
    """

    def picked(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        return {r["domain"]: r for r in rows if r["task"] == task and r["slice"] == part and r["auc"] is not None}

    if part == "cold_items":
        tests = {domain: rows.take(rows.cold) for domain, rows in tests.items()}
    intervals = difference_intervals(tests)
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
        baseline = tuple(rows[domain]["auc"] for rows in of_trees)
        known = (first["oracle_auc"], first["popularity_auc"])
        lines.append(Line(domain, first["rows"], *known, baseline, scores, intervals[domain]))
    if len(lines) > 1:
        lines.append(_mean_line(lines, intervals[MEAN]))
    return lines


def losses(lines: Sequence[Line]) -> list[str]:
    """Sentences naming the domains where foundrank is behind the trees or popularity."""
    out = []
    for line in lines:
        if line.lead < 0:
            sure = "an interval below 0" if line.interval[1] < 0 else "an interval that holds 0"
            out.append(f"{line.domain.strip('*')}: {line.lead:+.4f} to trees, {sure}")
        if line.popularity is not None and (gap := float(np.mean(line.foundrank)) - line.popularity) < 0:
            out.append(f"{line.domain.strip('*')}: {gap:+.4f} to popularity")
    return out


def tables(trees: Evaluations, foundrank: Evaluations, tests: Mapping[str, Mapping[str, TestRows]]) -> str:
    """For every task: all test rows, those of cold items, and where foundrank is behind.

    Arguments as in `compare`, ``tests`` by task.
    """
    parts = []
    for task in dict.fromkeys(row["task"] for row in foundrank[0]):
        lines = compare(trees, foundrank, tests[task], task, "all")
        if not lines:
            continue
        parts.append(f"**{task}**, test AUC\n\n{_table(HEADER, [_all_cells(line) for line in lines])}")
        behind = losses(lines)
        parts.append(f"Behind: {'; '.join(behind)}." if behind else "Behind nowhere.")
        cold = compare(trees, foundrank, tests[task], task, "cold_items")
        if cold:
            parts.append(
                f"**{task}**, test AUC on items never seen in training\n\n"
                f"{_table(COLD_HEADER, [_cold_cells(line) for line in cold])}"
            )
    return "\n\n".join(parts)


def _mean_line(lines: Sequence[Line], interval: Interval) -> Line:
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
        interval,
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
        f"{line.lead:+.4f} [{line.interval[0]:+.4f}, {line.interval[1]:+.4f}]",
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
