"""A small world whose items have vectors in their catalog, to make codes of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.model.kinds import KINDS

ITEMS, WIDTH, CLUSTERS = 40, 6, 5
RQ: dict[str, Any] = {"method": "rq_kmeans", "levels": 2, "size": 4, "iterations": 5}


def clustered(items: int = ITEMS, width: int = WIDTH, clusters: int = CLUSTERS, seed: int = 0) -> np.ndarray:
    """``[C, width]`` float32 around a few centres."""
    random = np.random.default_rng(seed)
    centres = 3 * random.normal(size=(clusters, width))
    return (centres[np.arange(items) % clusters] + 0.3 * random.normal(size=(items, width))).astype(np.float32)


def catalog(keys: Sequence[int]) -> pa.Table:
    """Items by their number: what an item is follows from it."""
    every = clustered(max(keys, default=0) + 1)
    kinds = ["tools", "toys", None]
    return pa.table(
        {
            "item": pa.array(keys, pa.int64()),
            "look": pa.array([every[key].tolist() for key in keys], pa.list_(pa.float32())),
            "kind": pa.array([kinds[key % 3] for key in keys], pa.string()),
            "maker": pa.array([f"maker {key % 7}" for key in keys], pa.string()),
        }
    )


def rounds(users: int, seed: int, items: int = ITEMS, longest: int = 5) -> pa.Table:
    """Rows of users who go round a circle of items."""
    random = np.random.default_rng(seed)
    start, length = random.integers(0, items, users), random.integers(1, longest + 1, users)
    past = [[int(first + place) % items for place in range(many)] for first, many in zip(start, length, strict=True)]
    return pa.table(
        {
            "user": pa.array(np.arange(users) % 30, pa.int64()),
            "item": pa.array((start + length) % items, pa.int64()),
            "history": pa.array(past, pa.list_(pa.int64())),
        }
    )


def raw_experiment(codes: Mapping[str, Any] = RQ, **model: Any) -> dict[str, Any]:
    """The experiment as YAML would hold it: the next item is found by codes unless ``model`` says otherwise."""
    return {
        "name": "coded",
        "entities": {
            "user": {"id": "user", "history": {"column": "history", "max_length": 5}},
            "item": {
                "id": "item",
                "catalog": {"path": "items.parquet", "key": "item"},
                "contents": {"look": {"vector": "look", "size": WIDTH}, "codes": {"codes": dict(codes)}},
            },
        },
        "domains": {
            name: {
                "kind": "recommendation",
                "events": {
                    "train": f"{name}.train.parquet",
                    "validation": f"{name}.validation.parquet",
                    "test": f"{name}.test.parquet",
                },
            }
            for name in ("home", "feed")
        },
        "model": {
            "width": 8,
            "embedding_dim": 8,
            "history": {"encoder": "sasrec", "layers": 1, "heads": 1, "dropout": 0},
            "next_item": {"target": "codes"},
            **model,
        },
        "text": {"store": "store"},
        "training": {"batch_size": 32, "epochs": 1, "log_every": 1},
    }


def write_world(folder: Path, raw: Mapping[str, Any] | None = None, users: int = 90, group: int = 13) -> Path:
    """Writes events, the catalog and the experiment; the path of this."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (domain, items) in enumerate({"home": ITEMS, "feed": ITEMS // 2}.items()):
        for split, many in (("train", users), ("validation", users // 2), ("test", users // 2)):
            table = rounds(many, 10 * number + len(split), items)
            pq.write_table(table, folder / f"{domain}.{split}.parquet", row_group_size=group)
    pq.write_table(catalog(range(ITEMS)), folder / "items.parquet")
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(raw_experiment() if raw is None else dict(raw), sort_keys=False))
    return path


def opened(path: Path, *changes: str) -> Experiment:
    """The experiment, with ``key=value`` changes."""
    return load_experiment(path, list(changes), kinds=KINDS)
