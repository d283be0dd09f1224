"""The study's test predictions, read back and compared: mean AUCs, and intervals of differences between arms."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...model.tasks.metrics import auc
from ..compare.intervals import MEAN, TestRows, difference_intervals
from ..evaluate.slices import SEEN
from .arms import FRACTIONS, FULL, ID_ONLY, LINES, PRETRAINED, SINGLE, Arm, DataSet, of_share, parts
from .directions import PAPER, TOLD
from .kept import PREDICTIONS, kept_predictions
from .measured import ArmOfLabels, Conditions, Gap, LeadOfLabels, MeasuredLabels, Oracle

REPLICATES = 500
Chosen = Callable[["Surface"], np.ndarray]
"""Which rows of a surface are looked at, ``[N]`` bool."""
_SEEN = {"never": (0.0, 1.0), **{name.removeprefix("items_seen_").replace("_", " "): of for name, of in SEEN.items()}}


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


def measure_labels(
    data: DataSet,
    new_domain: str,
    every: Sequence[Arm],
    out: Path,
    on: Conditions,
    unfinished: dict[str, tuple[int, int]],
) -> MeasuredLabels:
    """What the study's folder holds of a data set with a new domain.

    Args:
        data: the data set.
        new_domain: its domain that is treated as new.
        every: its arms; the full model is done.
        out: the study's folder.
        on: how it was measured.
        unfinished: as in `MeasuredLabels`.
    """
    results = read_results(data, every, out)
    full, gaps = results[FULL], _over_single(new_domain, results)
    leads = {}
    for name in (ID_ONLY, *(arm.name for arm in parts(data))):
        if name in results:
            all_rows, cold, warm = (difference(full, results[name], rows) for rows in (None, cold_items, warm_items))
            leads[name] = LeadOfLabels(all=all_rows, cold=cold, warm=warm)
    arms = {}
    for name, of_arm in results.items():
        if name != PRETRAINED:  # which knows nothing of the new domain
            arms[name] = ArmOfLabels(
                rate=of_arm.rate,
                seeds=of_arm.seeds,
                all=of_arm.mean_auc(),
                cold=of_arm.mean_auc(cold_items),
                warm=of_arm.mean_auc(warm_items),
                new_domain=of_arm.mean_auc(domain=new_domain),
                seen={times: of_arm.mean_auc(_between(*bounds)) for times, bounds in _SEEN.items()},
                lead=leads.get(name),
                over_single=gaps.get(name),
            )
    return MeasuredLabels(
        data=data.name,
        on=on,
        unfinished=unfinished,
        paper=_paper(new_domain, results),
        parts=_parts(new_domain, results, gaps, leads),
        new_domain=new_domain,
        arms=arms,
        oracle=Oracle(
            cold=full.oracle_auc(cold_items),
            new_domain=full.oracle_auc(domain=new_domain),
            seen={times: full.oracle_auc(_between(*bounds)) for times, bounds in _SEEN.items()},
        ),
    )


def _over_single(new_domain: str, results: Mapping[str, Result]) -> dict[str, Gap]:
    """Arm -> what it is ahead by, in the new domain, of that domain alone with the same share of its rows."""
    gaps = {}
    for fraction in FRACTIONS:
        single = results.get(of_share(SINGLE, fraction))
        for name in (of_share(line, fraction) for line in LINES if line != SINGLE):
            if single is not None and name in results:
                gaps[name] = difference(results[name], single, domain=new_domain)
    return gaps


def _parts(
    new_domain: str, results: Mapping[str, Result], gaps: Mapping[str, Gap], leads: Mapping[str, LeadOfLabels]
) -> dict[str, Gap]:
    """What pretraining and each part of the model bring: direction -> difference."""
    told = {}
    for line in TOLD:
        for fraction in FRACTIONS:
            if (name := of_share(line, fraction)) in gaps:
                told[f"{line} > {SINGLE}, {fraction:.0%} of its rows"] = gaps[name]
    for fraction in FRACTIONS:
        frozen, free = (results.get(of_share(f"fine-tuned {name}", fraction)) for name in ("L0+L1 frozen", "full"))
        if frozen is not None and free is not None:
            gap = difference(frozen, free, domain=new_domain)
            told[f"fine-tuned L0+L1 frozen ≥ fine-tuned full, {fraction:.0%} of its rows"] = gap
    for name, lead in leads.items():
        told |= {f"{FULL} > {name}, all rows": lead.all, f"{FULL} > {name}, cold items": lead.cold}
    return told


def _paper(new_domain: str, results: Mapping[str, Result]) -> dict[str, Gap]:
    """What the data set says of the paper's directions."""
    told = {}
    for one in PAPER:
        if one.first in results and one.second in results:
            chosen = cold_items if one.rows == "cold items" else None
            domain = new_domain if one.rows == "new domain" else None
            told[one.said] = difference(results[one.first], results[one.second], chosen, domain)
    return told


def cold_items(surface: Surface) -> np.ndarray:
    """``[N]`` bool, rows of items never seen in training."""
    return surface.item_counts == 0


def warm_items(surface: Surface) -> np.ndarray:
    """``[N]`` bool, all others."""
    return surface.item_counts > 0


def _between(least: float, below: float) -> Chosen:
    return lambda surface: (surface.item_counts >= least) & (surface.item_counts < below)


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
