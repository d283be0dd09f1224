"""A small world with a history, lists, numbers and vectors; what is clicked follows from user, item and device."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MODEL = {
    "width": 8, "embedding_dim": 8, "expert_widths": [16], "tower_widths": [8], "domain_width": 16, "experts": 2, "dropout": 0,
    "id_dropout": 0, "hide_rare_items": 0,
}  # fmt: skip
TRAINING = {
    "epochs": 6, "batch_size": 32, "learning_rate": 0.02, "sparse_learning_rate": 0.2, "keep_best": False, "log_every": 5,
}  # fmt: skip


def write_events(folder: Path) -> None:
    """Two domains' events and a catalog: ``events/DOMAIN_SPLIT.parquet`` and ``items.parquet``."""
    rng, items = np.random.default_rng(0), 12
    (folder / "events").mkdir(parents=True)
    every = np.arange(1, items + 3)
    tags = [sorted(rng.choice(8, rng.integers(1, 7), replace=False).tolist()) for _ in range(items + 3)]
    lists = pa.list_(pa.int64())
    catalog = {"item_id": every, "price": every.astype(float), "category": every % 5}
    catalog["tag_weights"] = pa.array([[(i + at) % 3 + 0.5 for at in range(len(tags[i]))] for i in every])
    picture = pa.FixedSizeListArray.from_arrays(np.sin(np.arange(4.0 * len(every), dtype=np.float32)), 4)
    catalog |= {"tags": pa.array([tags[i] for i in every], lists), "picture": picture}
    pq.write_table(pa.table(catalog), folder / "items.parquet")
    for domain, n in (("home", 600), ("feed", 200)):
        user, item, device = rng.integers(1, 21, n), rng.integers(1, items + 1, n), rng.integers(0, 4, n)
        clicked = ((user * 7 + item * 3 + device) % 5 < 2).astype(np.int8)
        history = pa.array([rng.integers(1, items + 1, rng.integers(1, 8)).tolist() for _ in range(n)], lists)
        columns = {"user_id": user, "item_id": item, "device": device, "clicked": clicked, "history": history}
        cuts = [0, int(n * 0.8), n]
        for split, first, last in zip(("train", "test"), cuts, cuts[1:], strict=False):
            part = pa.table(columns).slice(first, last - first)
            pq.write_table(part, folder / f"events/{domain}_{split}.parquet", row_group_size=100)


def write_experiment(folder: Path) -> Path:
    """An experiment over `write_events`, with every kind of feature."""
    events = {d: {s: f"events/{d}_{s}.parquet" for s in ("train", "test")} for d in ("home", "feed")}
    features: dict[str, Any] = {
        "category": {"kind": "categorical"},
        "tags": {"kind": "list"},
        "price": {"kind": "dense"},
        "age": {"kind": "bucketed", "buckets": 4, "column": "price"},
    }
    features["picture"] = {"kind": "vector", "size": 4}
    user = {"id": "user_id", "history": {"column": "history", "max_length": 6}}
    item = {"id": "item_id", "catalog": {"path": "items.parquet", "key": "item_id"}, "features": features}
    experiment = {
        "name": "small",
        "entities": {"user": user, "item": item},
        "context": {"device": {"kind": "categorical"}},
        "domains": {
            d: {"kind": "recommendation", "tasks": {"click": {"label": "clicked"}}, "events": of}
            for d, of in events.items()
        },
        "text": {"vectors": "none"},
        "model": MODEL,
        "training": TRAINING,
    }
    (folder / "experiment.yaml").write_text(json.dumps(experiment))
    return folder / "experiment.yaml"
