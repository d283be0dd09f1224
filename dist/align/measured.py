"""What an alignment has changed: the reward of users' lists and how often these hold the next item, before and after, with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...data.arrow.ids import id_keys
from ...data.arrow.values import ragged_lists
from ...data.config.experiment import Experiment
from ...data.events.event_files import read_group
from ...data.schema.groups import CANDIDATES, REWARD
from ...data.storage import storage
from ..compare.intervals import REPLICATES, interval_of_difference
from ..compare.resampling import OfSums, drawn_users
from .request import AFTER, BEFORE, CHOSEN, LISTED, REWARDED, place

MEASURES = ("reward", f"hr@{LISTED}", f"ndcg@{LISTED}")


def measured(outs: Sequence[str], experiment: Experiment, domains: Sequence[str]) -> list[dict[str, Any]]:
    """What alignments of the same data, that differ in their seeds, have changed: a row for each domain and measure.

    ``before``, ``after``, their ``difference`` and the ends of its 95 % interval over users and seeds, ``low`` and ``high``: of means over rows
    whose own item was taken, of lists of the best ten items, and over alignments. ``relative`` is the difference as a share of ``before``.

    Args:
        outs: folders of the alignments.
        experiment: of a generator.
        domains: those that were measured.
    """
    found = []
    for domain in domains:
        sides = [[_of_rows(place(out, of, REWARDED, domain), experiment) for out in outs] for of in (BEFORE, AFTER)]
        _, users = np.unique(sides[0][0]["user"], return_inverse=True)
        for measure in MEASURES:
            first, second = (np.stack([of_out[measure] for of_out in side]) for side in sides)
            fine = np.isfinite(first).all(0) & np.isfinite(second).all(0)
            row: dict[str, Any] = {"domain": domain, "measure": measure, "rows": int(fine.sum())}
            row["users"] = len(np.unique(users[fine]))
            found.append(row | (_change(first[:, fine], second[:, fine], users[fine]) if fine.any() else {}))
    return found


def _change(first: NDArray, second: NDArray, users: NDArray) -> dict[str, float | None]:
    """Of ``[S, N]`` values of S alignments, and whose ``[N]`` rows they are."""
    known, of_row = np.unique(users, return_inverse=True)
    one, many = np.ones(len(users)), len(known)
    drawn = list(drawn_users(many, REPLICATES, 0))
    sides = [
        np.stack(
            [np.concatenate([OfSums(many, of_row, (line, one)).under(weights) for weights in drawn]) for line in of]
        )
        for of in (second, first)
    ]
    found = interval_of_difference(sides[0], sides[1], many, paired=True)
    before, after = float(first.mean()), float(second.mean())
    ends = {name: None if np.isnan(end) else end for name, end in (("low", found.low), ("high", found.high))}
    relative = (after - before) / abs(before) if before else None
    return {"before": before, "after": after, "difference": after - before, **ends, "relative": relative}


def _of_rows(folder: str, experiment: Experiment) -> Mapping[str, NDArray]:
    """``[N]`` of the rows whose own item was taken: their users' keys, and the measures of their lists."""
    user, item = experiment.entities.user.id, experiment.entities.item.id
    parts: dict[str, list[NDArray]] = {name: [] for name in ("user", *MEASURES)}
    for name in sorted(name for name in storage.names(folder) if name.endswith(".parquet")):
        path = storage.join(folder, name)
        with storage.parquet_file(path) as file:
            groups = file.metadata.num_row_groups
        for group in range(groups):
            table = read_group(path, group, [user, item, CANDIDATES, REWARD, CHOSEN])
            table = table.filter(table[CHOSEN])
            parts["user"].append(id_keys(table[user])[0])
            for measure, values in measures(table, item).items():
                parts[measure].append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def change_told(row: Mapping[str, Any]) -> str:
    """The difference of a row of `measured`, with its interval; a dash for one that a single user has not."""
    ends = [row["low"], row["high"]]
    return f"{row['difference']:+.4f} " + ("–" if None in ends else f"[{ends[0]:+.4f}, {ends[1]:+.4f}]")


def measures(table: pa.Table, item: str) -> dict[str, NDArray]:
    """``[N]`` float64 of rows' lists: the mean reward of those of a list that have one, NaN where none has; whether the row's own item, of
    column ``item``, is among them; and what its place is worth."""
    ids, offsets = ragged_lists(table[CANDIDATES])
    many = np.diff(offsets)
    row, at = np.repeat(np.arange(len(many)), many), np.arange(len(ids)) - np.repeat(offsets[:-1], many)
    hit = id_keys(ids)[0] == id_keys(table[item])[0][row]
    values, _ = ragged_lists(table[REWARD])
    rewards = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    there = np.isfinite(rewards)
    sums, counts = (np.bincount(row, of, len(many)) for of in (np.where(there, rewards, 0), there.astype(float)))
    return {
        "reward": np.where(counts > 0, sums / np.maximum(counts, 1), np.nan),
        f"hr@{LISTED}": np.bincount(row, hit.astype(float), len(many)),
        f"ndcg@{LISTED}": np.bincount(row, hit / np.log2(at + 2), len(many)),
    }
