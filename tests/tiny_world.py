"""A small experiment with everything in it: three domains, every kind of feature, nulls, text vectors both ways."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.entities import Stored
from foundrank.data.contents.content_store import expected_manifest
from foundrank.data.counting.counting_pass import count
from foundrank.data.events.check_events import check_events
from foundrank.data.events.event_files import EventFiles
from foundrank.model.kinds import KINDS
from tests.content_store import write_store

Row = dict[str, Any]

# Column types of the three domains; `new` lacks the query, the list column and most features.
COMMON = {
    "user": pa.string(),
    "item": pa.int64(),
    "history": pa.list_(pa.int64()),
    "clicks": pa.int64(),
    "hour": pa.int8(),
    "row": pa.int64(),
    "click": pa.float32(),
}
SCHEMAS = {
    "find": pa.schema(
        {
            **COMMON,
            "query": pa.string(),
            "query_vector": pa.list_(pa.float32()),
            "intent": pa.dictionary(pa.int32(), pa.string()),
            "rank": pa.float64(),
            "matched": pa.list_(pa.int64()),
            "slot": pa.string(),
            "buy": pa.bool_(),
            "truth": pa.float64(),
        }
    ),
    "home": pa.schema({**COMMON, "slot": pa.string(), "picture": pa.list_(pa.float16(), 2)}),
    "new": pa.schema({**COMMON, "like": pa.int8()}),
}
USERS, ITEMS, QUERIES = 6, 8, 5


def experiment_dict() -> dict[str, Any]:
    """The experiment as YAML would hold it."""
    return {
        "name": "tiny",
        "entities": {
            "user": {
                "id": "user",
                "catalog": {"path": "users.parquet", "key": "user_id"},
                "features": {
                    "segment": {"kind": "categorical"},
                    "age": {"kind": "dense"},
                    "clicks": {"kind": "dense", "source": "events", "transform": "log1p"},
                },
                "history": {"column": "history", "max_length": 3},
            },
            "item": {
                "id": "item",
                "min_count": 2,
                "catalog": {"path": "items.parquet", "key": "item_id"},
                "text": "{title}",
                "features": {
                    "brand": {"kind": "categorical"},
                    "tags": {"kind": "list", "max_length": 2},
                    "price": {"kind": "dense", "transform": "log1p"},
                    "image": {"kind": "vector", "size": 3},
                },
            },
            "query": {
                "id": "query",
                "encoding": "hash",
                "buckets": 7,
                "text_vector": {"column": "query_vector", "size": 2},
                "features": {"intent": {"kind": "categorical"}},
            },
        },
        "context": {"hour": {"kind": "categorical"}},
        "domains": {
            "find": {
                "kind": "search",
                "events": {"train": "find/*.parquet", "test": "find/*.parquet"},
                "tasks": {"click": {"label": "click", "probability": "truth"}, "buy": {"label": "buy", "weight": 2.0}},
                "features": {
                    "rank": {"kind": "dense"},
                    "matched": {"kind": "list", "entity": "item", "encoding": "hash", "buckets": 5},
                    "slot": {"kind": "categorical"},
                },
                "list_column": "row",
            },
            "home": {
                "kind": "recommendation",
                "events": {"train": "home/*.parquet"},
                "tasks": {"click": {"label": "click"}},
                "features": {"slot": {"kind": "categorical"}, "picture": {"kind": "vector", "size": 2}},
                "list_column": "row",
            },
            "new": {
                "kind": "recommendation",
                "cold": True,
                "events": {"train": "new/*.parquet"},
                "tasks": {"like": {"label": "like"}, "click": {"label": "click"}},
                "list_column": "row",
            },
        },
        "text": {"store": "store"},
        "training": {"batch_size": 8},
    }


def random_row(random: np.random.Generator, number: int) -> Row:
    """One event with a value for every column of every domain; about one in five is null."""

    def maybe(value):
        return None if random.random() < 0.2 else value

    def some(upto: int, most: int) -> list:
        return [maybe(int(x)) for x in random.integers(0, upto, random.integers(0, most + 1))]

    return {
        "user": maybe(f"u{random.integers(0, USERS + 2)}"),
        "item": maybe(int(random.integers(-1, ITEMS + 2))),
        "history": maybe(some(ITEMS + 2, 5)),
        "clicks": maybe(int(random.integers(0, 9))),
        "hour": maybe(int(random.integers(0, 4))),
        "row": number,
        "click": maybe(float(random.integers(0, 2))),
        "query": maybe(f"q {random.integers(0, QUERIES)}"),
        "query_vector": maybe([float(x) for x in random.integers(-4, 5, 2)]),
        "intent": maybe(str(random.integers(0, 3))),
        "rank": maybe(float(random.normal())),
        "matched": maybe(some(9, 3)),
        "slot": maybe(f"s{random.integers(0, 3)}"),
        "buy": maybe(bool(random.integers(0, 2))),
        "truth": maybe(float(random.random())),
        "picture": maybe([np.float16(x) for x in random.integers(-4, 5, 2)]),
        "like": maybe(int(random.integers(0, 2))),
    }


def random_events(seed: int, rows: Mapping[str, int]) -> dict[str, list[Row]]:
    """Events per domain; ``row`` numbers them through all domains."""
    random = np.random.default_rng(seed)
    numbers = iter(range(sum(rows.values())))
    return {name: [random_row(random, next(numbers)) for _ in range(rows.get(name, 0))] for name in SCHEMAS}


def catalogs(seed: int) -> dict[str, list[Row]]:
    """Rows of the user and the item catalog; some entities of the events are in neither."""
    random = np.random.default_rng(seed + 1)

    def maybe(value):
        return None if random.random() < 0.2 else value

    users = [
        {"user_id": f"u{u}", "segment": maybe(f"g{random.integers(0, 3)}"), "age": maybe(float(random.integers(9, 99)))}
        for u in range(USERS)
    ]
    items = [
        {
            "item_id": i,
            "title": maybe(f"title {i // 2}"),
            "brand": maybe(int(random.integers(0, 3))),
            "tags": maybe([maybe(f"t{t}") for t in random.integers(0, 4, random.integers(0, 4))]),
            "price": maybe(float(random.integers(0, 9))),
            "image": maybe([float(x) for x in random.integers(-4, 5, 3)]),
        }
        for i in range(ITEMS)
    ]
    return {"users": users, "items": items}


def text_vectors(items: list[Row], size: int = 4) -> dict[int, np.ndarray]:
    """Item -> its text vector, of the items with a title; equal titles have equal vectors."""
    titles = {row["item_id"]: row["title"] for row in items if row["title"] is not None}
    return {i: np.random.default_rng(i // 2).integers(-8, 9, size).astype(np.float16) for i in titles}


def write_events(folder: Path, schema: pa.Schema, rows: list[Row], files: int = 1, group: int = 1024) -> None:
    """Spreads rows over Parquet files of row groups of ``group`` rows, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([{k: row[k] for k in schema.names} for row in rows], schema=schema)
    bounds = [len(rows) * f // files for f in range(files + 1)]
    for f in range(files):
        part = table.slice(bounds[f], bounds[f + 1] - bounds[f])
        pq.write_table(part, folder / f"part-{f:03d}.parquet", row_group_size=group)


def write_world(
    folder: Path, events: Mapping[str, list[Row]], seed: int = 0, files: int = 1, group: int = 1024
) -> Experiment:
    """Writes events, catalogs, the content store and the experiment into ``folder``, and loads it."""
    for name, rows in events.items():
        write_events(folder / name, SCHEMAS[name], rows, files, group)
    rows_of = catalogs(seed)
    pq.write_table(pa.Table.from_pylist(rows_of["users"]), folder / "users.parquet")
    kinds = {"tags": pa.list_(pa.string()), "image": pa.list_(pa.float64())}
    items = pa.Table.from_pylist(rows_of["items"])
    for name, kind in kinds.items():
        items = items.set_column(items.column_names.index(name), name, items[name].cast(kind))
    pq.write_table(items, folder / "items.parquet")
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment_dict(), sort_keys=False))
    experiment = load_experiment(folder, kinds=KINDS)
    vectors = text_vectors(rows_of["items"])
    distinct = sorted({item // 2 for item in vectors})
    write_store(
        folder / "store" / "item",
        pa.array(list(vectors), pa.int64()),
        np.array([distinct.index(item // 2) for item in vectors], np.int64),
        np.array([next(v for i, v in vectors.items() if i // 2 == d) for d in distinct]).reshape(-1, 4),
        expected_manifest(experiment, Stored("item", "text")),
    )
    return experiment


def train_files(experiment: Experiment) -> dict[str, EventFiles]:
    """Domain -> its checked training files."""
    return {name: splits["train"] for name, splits in check_events(experiment, ["train"]).items()}


def encoder_of(experiment: Experiment, domains: Iterable[str] | None = None) -> RowEncoder:
    """The encoder, with statistics counted from all training events."""
    files = train_files(experiment)
    return RowEncoder(experiment, count(experiment, {n: files[n] for n in domains or files}))
