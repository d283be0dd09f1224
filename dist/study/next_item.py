"""Test ranks of the study's next items, read back and compared: rank percentiles and NDCG, and intervals of differences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..compare.intervals import interval_of_difference
from ..compare.resampling import OfSums, drawn_users
from .arms import FULL, Arm, DataSet
from .directions import PAPER
from .kept import PREDICTIONS, kept_predictions
from .measured import ArmOfNextItems, Conditions, Gap, Lead, MeasuredNextItems
from .results import REPLICATES

PERCENTILE, NDCG = "percentile", "ndcg@10"
_PLACES = 10


@dataclass(frozen=True)
class Found:
    """Test rows whose next item counts, and where an arm ranks it.

    Attributes:
        users: ``[N]`` integer key of each row's user.
        item_counts: ``[N]`` how often the item was seen in training.
        ranks: ``[S, N]`` a line per seed, 0 being the first place.
        percentiles: ``[S, N]`` share of the other items that rank behind it.
        rate: the learning rates' factor.
    """

    users: NDArray
    item_counts: NDArray
    ranks: NDArray
    percentiles: NDArray
    rate: float

    def numbers(self, metric: str) -> NDArray[np.float64]:
        """``[S, N]``: what each row adds to a metric that is a mean over rows."""
        if metric == PERCENTILE:
            return self.percentiles
        return (self.ranks < _PLACES) / np.log2(self.ranks + 2)

    def mean(self, metric: str, chosen: NDArray[np.bool_]) -> float:
        """Over rows and seeds; NaN for no rows."""
        return float(self.numbers(metric)[:, chosen].mean()) if chosen.any() else np.nan


def read_found(data: DataSet, every: Sequence[Arm], out: Path) -> dict[str, Found]:
    """Arm -> its ranks of the seeds that are done, at the learning rate that validation chose; without arms that are not.

    Args:
        data: the data set.
        every: its arms.
        out: the study's folder.
    """
    found = {}
    for arm in every:
        folders, rate = kept_predictions(data, arm, out)
        if not folders:
            continue
        of_seeds = [np.load(folder / PREDICTIONS) for folder in folders]
        counts = of_seeds[0]["chosen"]
        ranks, percentiles = (np.stack([one[name][counts] for one in of_seeds]) for name in ("rank", "percentile"))
        first = of_seeds[0]
        found[arm.name] = Found(first["user"][counts], first["item_counts"][counts], ranks, percentiles, rate)
    return found


def measure_next_items(
    data: DataSet, every: Sequence[Arm], out: Path, on: Conditions, unfinished: dict[str, tuple[int, int]]
) -> MeasuredNextItems:
    """What the study's folder holds of a data set in which the next item is sought.

    Args:
        data: the data set.
        every: its arms; the full model is done.
        out: the study's folder.
        on: how it was measured.
        unfinished: as in `MeasuredNextItems`.
    """
    found = read_found(data, every, out)
    full, arms, parts = found[FULL], {}, {}
    for name, of_arm in found.items():
        cold, lead = _cold(of_arm), None
        if name != FULL:
            lead = Lead(all=gap(full, of_arm, NDCG, _all), cold=gap(full, of_arm, PERCENTILE, _cold))
            parts |= {f"{FULL} > {name}, all rows": lead.all, f"{FULL} > {name}, cold items": lead.cold}
        arms[name] = ArmOfNextItems(
            rate=of_arm.rate,
            seeds=len(of_arm.ranks),
            ndcg=of_arm.mean(NDCG, _all(of_arm)),
            cold_percentile=of_arm.mean(PERCENTILE, cold),
            cold_ndcg=of_arm.mean(NDCG, cold),
            lead=lead,
        )
    paper = {}
    for one in PAPER:
        if one.first in found and one.second in found:
            asked = (PERCENTILE, _cold) if one.rows == "cold items" else (NDCG, _all)
            paper[one.said] = gap(found[one.first], found[one.second], *asked)
    return MeasuredNextItems(
        data=data.name,
        on=on,
        unfinished=unfinished,
        paper=paper,
        parts=parts,
        rows=len(full.users),
        cold_rows=int(_cold(full).sum()),
        arms=arms,
    )


def _all(found: Found) -> NDArray[np.bool_]:
    return np.ones(len(found.users), bool)


def _cold(found: Found) -> NDArray[np.bool_]:
    return found.item_counts == 0


def gap(first: Found, second: Found, metric: str, chosen: Callable[[Found], NDArray[np.bool_]]) -> Gap:
    """Mean of the first less that of the second, and its 95 % interval over users and seeds; NaN for no rows."""
    where = chosen(second)
    if not where.any():
        return np.nan, np.nan, np.nan
    users, of_row = np.unique(second.users[where], return_inverse=True)
    sides = []
    for of_arm in (first, second):
        every = np.ones(len(of_row))
        sums = [OfSums(len(users), of_row, (line[where], every)) for line in of_arm.numbers(metric)]
        sides.append(
            np.concatenate(
                [np.stack([one.under(drawn) for one in sums]) for drawn in drawn_users(len(users), REPLICATES, 0)], 1
            )
        )
    low, high = interval_of_difference(sides[0], sides[1], len(users), paired=False)
    return first.mean(metric, where) - second.mean(metric, where), low, high
