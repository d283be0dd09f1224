"""Updating a run whose next item is sought among those of its domain: all that the domain has had so far."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import foundrank as foundrank_module
from foundrank.data.arrow.ids import id_keys
from foundrank.data.counting.statistics import Statistics

from .commands import Here, foundrank
from .updates import current, record

A_DAY = 86_400.0
FIRST = {"home": range(8), "feed": range(5, 20)}
SECOND = [2, 8, 12, 20]  # of home alone, twenty days later
USERS = pa.table({"user": [1], "history": pa.array([[1, 2]], pa.list_(pa.int64()))})
MANAGED = {"encoding": "managed", "rows": 25, "expire_after": 5}


def events(path: Path, items: list[int], at: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    past = [[int(item) for item in random.choice(items, 3)] for _ in range(90)]
    own = [*items, *random.choice(items, 90 - len(items))]
    table = {"user": random.integers(0, 9, 90), "item": own, "history": pa.array(past, pa.list_(pa.int64()))}
    pq.write_table(pa.table(table | {"at": np.full(90, at)}), path, row_group_size=13)


def trained(folder: Path, item: dict) -> Path:
    for domain, items in FIRST.items():
        events(folder / domain / "day=01" / "0.parquet", [*items], A_DAY)
    events(folder / "home" / "day=21" / "0.parquet", SECOND, 21 * A_DAY)
    pq.write_table(pa.table({"item": np.arange(30), "kind": np.arange(30) % 3}), folder / "items.parquet")
    domains = {
        name: {"kind": "recommendation", "time": "at", "events": {"train": f"{name}/day=01/*.parquet"}}
        for name in FIRST
    }
    catalog = {"catalog": {"path": "items.parquet", "key": "item"}, "features": {"kind": {"kind": "categorical"}}}
    raw = {
        "name": "within",
        "entities": {"user": {"id": "user", "history": {"column": "history"}}, "item": {"id": "item"} | catalog | item},
        "domains": domains,
        "model": {
            "width": 8,
            "embedding_dim": 8,
            "history": {"encoder": "sasrec", "layers": 1, "heads": 1, "features": ["kind"]},
            "next_item": {"loss": "softmax", "candidates": "domain"},
        },
    }
    raw["training"] = {"batch_size": 32, "epochs": 1}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    foundrank("train", folder, "--run-dir", folder / "run")
    return folder / "run"


def keys_of(items: list[int]) -> list[int]:
    return np.sort(id_keys(pa.array(items, pa.int64()))[0]).tolist()


@pytest.mark.parametrize("item", [{}, MANAGED], ids=["vocab", "managed"])
def test_the_items_of_a_domain_are_those_of_all_days_that_have_not_lost_their_row(tmp_path: Path, item: dict):
    run = trained(tmp_path / "one", item)
    other = Path(shutil.copytree(run, tmp_path / "two"))
    following = foundrank_module.load(run)
    for of_run, ranks in ((run, 1), (other, 2)):
        foundrank("update", of_run, "--events", tmp_path / "one" / "{domain}" / "day=21" / "*.parquet", "-p", ranks)
    wanted = {"home": sorted({*FIRST["home"], *SECOND}), "feed": [*FIRST["feed"]]}
    if item:  # ids that were not seen in twenty days have lost their rows
        wanted = {"home": sorted(SECOND), "feed": [8, 12]}
    statistics = Statistics.load(current(run) / "vocabulary")
    for name, items in wanted.items():
        assert statistics.items[name].tolist() == keys_of(items)
        assert isinstance(statistics.items[name], np.memmap)
        file = f"items_of_{name}.npy"
        one, two = ((current(of) / "vocabulary" / file).read_bytes() for of in (run, other))
        assert one == two
    (home,) = [row for row in record(run)[0]["before"]["next_item"] if (row["domain"], row["slice"]) == ("home", "all")]
    assert home["items"] == len(FIRST["home"])  # of the version that was measured
    shutil.rmtree(tmp_path / "one" / "feed")  # what is kept needs no events
    assert following.refresh()
    for scorer in (following, foundrank_module.load(run)):
        for name, items in wanted.items():
            found = scorer.recommend(USERS, k=50, repeat=True, domain=name)["items"].to_pylist()[0]
            assert sorted(found) == items


def test_a_run_that_has_not_kept_them_is_read_and_not_updated(tmp_path: Path, here: Here):
    run = trained(tmp_path / "world", {})
    kept = foundrank_module.load(run).recommend(USERS, k=50, repeat=True, domain="feed")
    statistics = Statistics.load(run / "vocabulary")
    assert statistics.items.keys() == FIRST.keys()
    shutil.rmtree(run / "vocabulary")
    replace(statistics, items={}).save(run / "vocabulary")
    assert not {*(run / "vocabulary").glob("items_of_*")}
    assert foundrank_module.load(run).recommend(USERS, k=50, repeat=True, domain="feed").equals(kept)
    status, told = here("update", run, "--events", tmp_path / "world" / "{domain}" / "day=21" / "*.parquet")
    assert status == 2
    assert "has not kept the items of each domain" in " ".join(told.split())
