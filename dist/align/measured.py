"""What an alignment has changed: the reward of users' lists and how often these hold the next item, before and after, with intervals."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...data.arrow.ids import id_keys
from ...data.arrow.values import ragged_lists
from ...data.events.event_files import read_group
from ...data.schema.groups import CANDIDATES, REWARD
from ...data.storage import storage
from ..compare.intervals import REPLICATES, interval_of_difference
from ..compare.resampling import OfSums, drawn_users
from .request import AFTER, BEFORE, CHOSEN, LISTED, REWARDED, AlignJob

MEASURES = {"reward": "mean reward", f"hr@{LISTED}": f"HR@{LISTED}", f"ndcg@{LISTED}": f"NDCG@{LISTED}"}


def measured(job: AlignJob) -> list[dict[str, Any]]:
    """A row for each domain and measure: ``before``, ``after``, their ``difference`` and the ends of its 95 % interval over users, ``low`` and
    ``high``; means over rows whose own item was taken, of lists of the best ten items. ``relative`` is the difference as a share of ``before``.
    """
    found = []
    for name in job.files(BEFORE):
        before, after = (_of_rows(job, of, name) for of in (BEFORE, AFTER))
        _, users = np.unique(before["user"], return_inverse=True)
        many = int(users.max(initial=-1)) + 1
        for measure in MEASURES:
            fine = np.isfinite(before[measure]) & np.isfinite(after[measure])
            first, second = (of[measure][fine] for of in (before, after))
            row = {"domain": name, "measure": measure, "rows": int(fine.sum()), "users": many}
            if fine.any():
                low, high = difference_over_users(first, second, users[fine], many)
                change = float(second.mean() - first.mean())
                row |= {"before": float(first.mean()), "after": float(second.mean()), "difference": change}
                row |= {"low": low, "high": high, "relative": change / abs(first.mean()) if first.mean() else None}
            found.append(row)
    return found


def difference_over_users(first: NDArray, second: NDArray, users: NDArray, many: int) -> tuple[float, float]:
    """The 95 % interval of the mean of (second - first) of rows ``[N]``, over which of ``many`` users there are; ``users [N]`` is each row's."""
    one = np.ones(len(users))
    drawn = list(drawn_users(many, REPLICATES, 0))
    sides = [
        np.concatenate([OfSums(many, users, (of, one)).under(weights) for weights in drawn])[None]
        for of in (second, first)
    ]
    found = interval_of_difference(sides[0], sides[1], many, paired=True)
    return found.low, found.high


def _of_rows(job: AlignJob, of: str, domain: str) -> dict[str, NDArray]:
    """``[N]`` of the rows whose own item was taken: their users' keys, and the measures of their lists."""
    folder, user, item = job.place(of, REWARDED, domain), job.generator.entities.user.id, job.generator.entities.item.id
    parts: dict[str, list[NDArray]] = {name: [] for name in ("user", *MEASURES)}
    for name in sorted(name for name in storage.names(folder) if name.endswith(".parquet")):
        path = storage.join(folder, name)
        with storage.parquet_file(path) as file:
            groups = file.metadata.num_row_groups
        for group in range(groups):
            table = read_group(path, group, [user, item, CANDIDATES, REWARD, CHOSEN])
            table = table.filter(table[CHOSEN])
            parts["user"].append(id_keys(table[user])[0])
            for measure, values in _measures(table, item).items():
                parts[measure].append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _measures(table: pa.Table, item: str) -> dict[str, NDArray]:
    ids, offsets = ragged_lists(table[CANDIDATES])
    many = np.diff(offsets)
    row, place = np.repeat(np.arange(len(many)), many), np.arange(len(ids)) - np.repeat(offsets[:-1], many)
    hit = id_keys(ids)[0] == id_keys(table[item])[0][row]
    values, _ = ragged_lists(table[REWARD])
    rewards = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    there = np.isfinite(rewards)
    sums, counts = (np.bincount(row, of, len(many)) for of in (np.where(there, rewards, 0), there.astype(float)))
    return {
        "reward": np.where(counts > 0, sums / np.maximum(counts, 1), np.nan),
        f"hr@{LISTED}": np.bincount(row, hit.astype(float), len(many)),
        f"ndcg@{LISTED}": np.bincount(row, hit / np.log2(place + 2), len(many)),
    }
