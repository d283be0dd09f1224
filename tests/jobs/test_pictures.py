"""Pictures decide the clicks: a new item is ranked by its picture alone."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image as Pil

from foundrank.data.contents.content_store import open_store

from ..pictures import encoded
from ..tiny_encoder import write_vit
from .commands import foundrank, settings

SEEN, NEW, USERS = 300, 100, 50
BROKEN = {"gone": 7, "half": 21, "words": 301}  # items


def picture(rng, warm):
    """A disc before noise, orange or blue; its size and place say nothing."""
    pixels = rng.integers(90, 170, (32, 32, 3)).astype(np.uint8)
    y, x = np.mgrid[:32, :32] - rng.integers(12, 20, (2, 1, 1))
    pixels[x * x + y * y < rng.integers(60, 110)] = (230, 120, 40) if warm else (40, 90, 230)
    return encoded(Pil.fromarray(pixels), "JPEG")


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """Items of which three in four are in training's events, and the others in those of the test alone."""
    folder, rng = tmp_path_factory.mktemp("market"), np.random.default_rng(0)
    warm = rng.random(SEEN + NEW) < 0.5
    (folder / "pictures").mkdir()
    for item in range(SEEN + NEW):
        (folder / f"pictures/{item}.jpg").write_bytes(picture(rng, warm[item]))
    shutil.copy(folder / "pictures/0.jpg", folder / f"pictures/{SEEN}.jpg")  # the same picture under two names
    warm[SEEN] = warm[0]
    (folder / f"pictures/{BROKEN['gone']}.jpg").unlink()
    half = folder / f"pictures/{BROKEN['half']}.jpg"
    half.write_bytes(half.read_bytes()[:500])
    (folder / f"pictures/{BROKEN['words']}.jpg").write_text("no picture")
    items = [f"i{item}" for item in range(SEEN + NEW)]
    paths = [f"{item}.jpg" for item in range(SEEN + NEW)]
    pq.write_table(pa.table({"item": items, "path": paths}), folder / "items.parquet")

    def write_events(name, low, high, rows):
        of = rng.integers(low, high, rows)
        clicks = rng.random(rows) < np.where(warm[of], 0.95, 0.05)
        users = [f"u{user}" for user in rng.integers(0, USERS, rows)]
        columns = {"user": users, "item": [items[item] for item in of], "click": clicks}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")

    write_events("train", 0, SEEN, 4_000)
    write_events("test", SEEN, SEEN + NEW, 2_000)
    contents = {"picture": {"image": "{path}", "folder": "pictures", "encoder": str(write_vit(folder / "vit", 16))}}
    experiment = {
        "name": "market",
        "entities": {
            "user": {"id": "user"},
            "item": {"id": "item", "catalog": {"path": "items.parquet", "key": "item"}, "contents": contents},
        },
        "domains": {
            "shop": {
                "kind": "recommendation",
                "events": {"train": "train.parquet", "test": "test.parquet"},
                "tasks": {"click": {"label": "click"}},
            }
        },
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False))
    return folder


def auc(market, name, *changes):
    run = market / f"run_{name}"
    foundrank("train", market, "--run-dir", run, *settings(*changes))
    foundrank("evaluate", run)
    rows = json.loads((run / "evaluation.json").read_text())["rows"]
    return next(row["auc"] for row in rows if (row["domain"], row["slice"]) == ("shop", "all"))


def test_a_new_item_is_ranked_by_its_picture_alone(market):
    said = foundrank("embed", market, "-p", "2").stderr
    assert "396 distinct" in said  # 400, of which one is there twice and three are none
    assert "3 rows have none" in said
    store = open_store(market / "text_store/item_picture")
    assert set(store.keys.to_pylist()).isdisjoint(f"i{item}" for item in BROKEN.values())
    assert len(store.keys) == SEEN + NEW - len(BROKEN)
    told = store.manifest["missing"]
    assert {reason: (of["rows"], of["first"]) for reason, of in told.items()} == {
        "no such file": (1, [str(market / "pictures/7.jpg")]),
        "damaged": (1, [str(market / "pictures/21.jpg")]),
        "no JPEG, PNG, WebP, GIF": (1, [str(market / "pictures/301.jpg")]),
    }
    assert "picture" in foundrank("describe", market).stdout
    assert auc(market, "pictures", "training.epochs=3", "model.dropout=0", "model.id_dropout=0.5") > 0.75
    assert 0.45 < auc(market, "ids", "model.aspects=[id]", "training.epochs=1") < 0.55
