"""The study's test predictions, read back and compared: mean AUCs, and intervals of differences between arms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...model.tasks.metrics import auc
from ..compare.intervals import MEAN, TestRows, difference_intervals
from ..run.run_documents import StudyResult
from ..run.run_folder import read_json
from .arms import Arm, DataSet
from .runs import PREDICTIONS, RESULT, arm_folder, tuned_rate

REPLICATES = 500
Chosen = Callable[["Surface"], np.ndarray]
"""Which rows of a surface are looked at, ``[N]`` bool."""


@dataclass(frozen=True)
class Surface:
    """Labelled test rows of one domain and task, and the scores of an arm, a line per seed."""

    labels: np.ndarray
    users: np.ndarray
    item_counts: np.ndarray
    oracle: np.ndarray | None
    scores: np.ndarray


@dataclass(frozen=True)
class Result:
    """An arm's surfaces by domain and task, how many seeds they are of, and the learning rates' factor."""

    surfaces: dict[tuple[str, str], Surface]
    seeds: int
    rate: float

    def mean_auc(self, chosen: Chosen | None = None, domain: str | None = None) -> tuple[float, float]:
        """AUC, the mean over domains, tasks and seeds; and its standard error over seeds (NaN for one seed)."""
        parts = self._chosen(chosen, domain)
        if not parts:
            return np.nan, np.nan
        of_seeds = np.array([np.mean([auc(s.labels[w], s.scores[n][w]) for s, w in parts]) for n in range(self.seeds)])
        error = of_seeds.std(ddof=1) / len(of_seeds) ** 0.5 if len(of_seeds) > 1 else np.nan
        return float(of_seeds.mean()), float(error)

    def oracle_auc(self, chosen: Chosen | None = None, domain: str | None = None) -> float:
        """The AUC of the true probabilities, the mean over domains and tasks; NaN where they are not known."""
        found = [auc(s.labels[w], s.oracle[w]) for s, w in self._chosen(chosen, domain) if s.oracle is not None]
        return float(np.mean(found)) if found else np.nan

    def _chosen(self, chosen: Chosen | None, domain: str | None) -> list[tuple[Surface, np.ndarray]]:
        every = [s for (name, _), s in self.surfaces.items() if domain in (None, name)]
        pairs = [(s, np.ones(len(s.labels), bool) if chosen is None else chosen(s)) for s in every]
        return [(s, w) for s, w in pairs if 0 < s.labels[w].sum() < w.sum()]


def difference(
    first: Result, second: Result, chosen: Chosen | None = None, domain: str | None = None
) -> tuple[float, float, float]:
    """Mean AUC of the first less that of the second, and its 95 % interval (`difference_intervals`: users and seeds).

    Rows are chosen, and known, by the second's counts.
    """
    rows = {}
    for key, theirs in second.surfaces.items():
        if domain not in (None, key[0]) or key not in first.surfaces:
            continue
        where = np.ones(len(theirs.labels), bool) if chosen is None else chosen(theirs)
        mine = first.surfaces[key]
        if 0 < theirs.labels[where].sum() < where.sum():
            rows["/".join(key)] = TestRows(
                theirs.labels[where],
                theirs.users[where],
                theirs.item_counts[where] == 0,
                mine.scores[:, where],
                theirs.scores[:, where],
            )
    if not rows:
        return np.nan, np.nan, np.nan
    found = difference_intervals(rows, replicates=REPLICATES)
    low, high = found.get(MEAN, next(iter(found.values())))
    gaps = [
        np.mean([auc(r.labels, line) for line in r.first]) - np.mean([auc(r.labels, line) for line in r.second])
        for r in rows.values()
    ]
    return float(np.mean(gaps)), low, high


def read_results(data: DataSet, every: Sequence[Arm], out: Path) -> dict[str, Result]:
    """Arm -> its result, of the arms whose seeds are there at the rate that won on validation."""
    found = {}
    for arm in every:
        folders, rate = kept_predictions(data, arm, out)
        if folders:
            found[arm.name] = Result(_surfaces([np.load(one / PREDICTIONS) for one in folders]), len(folders), rate)
    return found


def kept_predictions(data: DataSet, arm: Arm, out: Path) -> tuple[list[Path], float]:
    """Folders of an arm's trainings that are done at the learning rate that won on validation, by seed; and that rate."""
    folders = sorted(path.parent for path in arm_folder(out, data.name, arm.name).glob(f"seed-*/{RESULT}"))
    if not folders:
        return [], np.nan
    first = folders[0].name.split("-rate-")[0]  # the seed that tried all rates
    rate = tuned_rate([folder for folder in folders if folder.name.startswith(f"{first}-rate-")])
    return [folder for folder in folders if read_json(folder / RESULT, StudyResult)["rate"] == rate], rate


def _surfaces(of_seeds: Sequence[Any]) -> dict[tuple[str, str], Surface]:
    first, out = of_seeds[0], {}
    for d, domain in enumerate(first["domains"].tolist()):
        for t, task in enumerate(first["tasks"].tolist()):
            where = (first["domain"] == d) & first["mask"][:, t]
            if not where.any():
                continue
            oracle = first[f"probability/{task}"][where] if f"probability/{task}" in first else None
            out[domain, task] = Surface(
                labels=first["labels"][where, t],
                users=first["user"][where],
                item_counts=first["item_counts"][where],
                oracle=None if oracle is None or np.isnan(oracle).any() else oracle,
                scores=np.stack([of_seed["probabilities"][where, t] for of_seed in of_seeds]),
            )
    return out
