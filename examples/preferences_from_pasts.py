"""Gives the events of an imported data set preferences that are made of the past alone: with nothing of what a row, or a place in it, is to find.

python examples/preferences_from_pasts.py DATA     DATA is a folder that `foundrank import amazon-office` or `amazon-beauty` has written

It writes Parquet files of events with a column `preference`, the vector of a title, and a column `user_code`, the cluster of the mean of the past titles' vectors,
of 64 that k-means finds in the training rows:

    DATA/preferences/cut           for training: each row as it is, without a preference; and once more with the older half of its past cut off, of which a
                                   hash of the user chooses an item as the preference. Whatever is to be found came after it.
    DATA/preferences/any           for training: each row once, with an item of its whole past. Places before that item learn to find it in hindsight.
    DATA/preferences/validation    without preferences
    DATA/preferences/test          without preferences; what would be one, of the whole past, is in `said`
"""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from foundrank.data.config.sections.text import TextConfig
from foundrank.model.contents import ENCODERS

CLUSTERS, ROUNDS = 64, 25
VECTOR = pa.list_(pa.float32())


def main(data: Path) -> None:
    """Writes the events anew."""
    items = pq.read_table(data / "catalogs/items.parquet", columns=["item_id", "title"])
    vectors = ENCODERS["llm"](TextConfig(), None).encode([title or "" for title in items["title"].to_pylist()]).vectors
    place = {item: at for at, item in enumerate(items["item_id"].to_pylist())}
    centroids = None
    for split in ("train", "validation", "test"):
        rows = pa.concat_tables(
            [pq.read_table(file) for file in sorted((data / "events").glob(f"*/{split}/*.parquet"))]
        )
        pasts = [past or [] for past in rows["history"].to_pylist()]
        users = [str(user) for user in rows["user_id"].to_pylist()]
        means = np.stack([vectors[[place[i] for i in past]].mean(0) if past else vectors[0] * 0 for past in pasts])
        centroids = k_means(means) if centroids is None else centroids  # training comes first
        codes = distances(means, centroids).argmin(1)
        rows = rows.append_column("user_code", pa.array(codes))
        chosen = [one_of(past, user) for past, user in zip(pasts, users, strict=True)]
        nothing, said = pa.nulls(len(rows), VECTOR), of(vectors, place, chosen)
        if split != "train":
            more = {"preference": nothing} | ({"said": said} if split == "test" else {})
            write(data, split, with_columns(rows, more))
            continue
        write(data, "any", with_columns(rows, {"preference": said}))
        halves = [(past[: len(past) // 2], past[len(past) // 2 :]) for past in pasts]
        chosen = [one_of(older, user) for (older, _), user in zip(halves, users, strict=True)]
        cut = with_columns(rows.drop_columns("history"), {"history": pa.array([newer for _, newer in halves])})
        cut = with_columns(cut, {"preference": of(vectors, place, chosen)})
        cut = cut.filter(pa.array([item is not None for item in chosen]))
        whole = with_columns(rows, {"preference": nothing})
        write(data, "cut", pa.concat_tables([whole, cut.select(whole.column_names).cast(whole.schema)]))


def one_of(items: Sequence[int], user: str) -> int | None:
    """One of some items, which the user and their number decide; None where there are none."""
    digest = hashlib.blake2b(f"{user}/{len(items)}".encode(), digest_size=8).digest()
    return items[int.from_bytes(digest, "little") % len(items)] if items else None


def of(vectors: np.ndarray, place: dict[int, int], items: Sequence[int | None]) -> pa.Array:
    """The vectors of some items; null for None."""
    return pa.array([None if item is None else vectors[place[item]].tolist() for item in items], VECTOR)


def with_columns(rows: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    """With further columns."""
    for name, column in columns.items():
        rows = rows.append_column(name, column)
    return rows


def write(data: Path, name: str, rows: pa.Table) -> None:
    """One file."""
    folder = data / "preferences" / name
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, folder / "part-00000.parquet")


def distances(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """``[N, K]`` squared distances, less each point's own length."""
    return (centroids**2).sum(1) - 2 * points @ centroids.T


def k_means(points: np.ndarray) -> np.ndarray:
    """``[K, D]`` centroids."""
    centroids = points[np.random.default_rng(1).choice(len(points), CLUSTERS, replace=False)]
    for _ in range(ROUNDS):
        nearest = distances(points, centroids).argmin(1)
        filled = np.unique(nearest)
        centroids[filled] = [points[nearest == k].mean(0) for k in filled]
    return centroids


if __name__ == "__main__":
    main(Path(sys.argv[1]))
