import json

import numpy as np
import pytest

from foundrank.dist.evaluate.slices import slice_rows, summary
from foundrank.model.tasks.binary import MEASURES, Binary

CLICK = Binary(label="click")


def test_slices_hold_their_own_rows():
    labels = np.array([1, 0, 1, 0, 1, 0])
    probabilities = np.array([0.9, 0.1, 0.2, 0.8, 0.6, 0.5])
    rows = slice_rows(
        "shop",
        "click",
        CLICK,
        labels,
        probabilities,
        counts={"item": np.array([5, 1, 0, 0, -1, -1]), "user": np.array([3, 3, 30, 30, 3, -1])},
        user_groups=np.array([1, 1, 1, 1, 2, 2]),
        oracle=np.array([0.9, 0.1, 0.9, 0.1, 0.9, 0.1]),
        popularity=np.array([0.7, 0.3, 0.4, 0.4, 0.4, 0.4]),
    )
    by_slice = {row["slice"]: row for row in rows}
    seen = {name: by_slice.pop(name) for name in [*by_slice] if name.startswith("items_seen")}
    assert {name: row["rows"] for name, row in seen.items()} == {"items_seen_1_to_4": 1, "items_seen_5_to_19": 1}
    of_users = {name: by_slice.pop(name)["rows"] for name in [*by_slice] if name.startswith("users_seen")}
    assert of_users == {"users_seen_1_to_4": 3, "users_seen_20_or_more": 2}
    assert list(by_slice) == ["all", "warm_items", "cold_items"]  # nobody is a cold user: no such row
    assert {(row["domain"], row["task"]) for row in rows} == {("shop", "click")}
    assert [by_slice[s]["rows"] for s in by_slice] == [6, 2, 2]
    assert [by_slice[s]["auc"] for s in by_slice] == pytest.approx([6 / 9, 1, 0])
    assert [by_slice[s]["oracle_auc"] for s in by_slice] == [1, 1, 1]
    assert [by_slice[s]["popularity_auc"] for s in by_slice] == pytest.approx([7 / 9, 1, 0.5])
    assert by_slice["cold_items"]["gauc"] == 0
    assert by_slice["all"]["ndcg@10"] is None
    json.dumps(rows, allow_nan=False)


def test_unknown_oracle_and_popularity_are_none():
    labels = np.array([1, 0])
    rows = slice_rows("a", "b", CLICK, labels, labels, counts={"item": np.zeros(2), "user": np.zeros(2)})
    assert [row["slice"] for row in rows] == ["all", "cold_items", "cold_users"]
    assert all(row["oracle_auc"] is None and row["popularity_auc"] is None for row in rows)


def row(domain, auc_value, oracle=None, popularity=None, task="click", part="all"):
    return {
        "domain": domain,
        "task": task,
        "slice": part,
        "auc": auc_value,
        "oracle_auc": oracle,
        "popularity_auc": popularity,
    }


def test_summary_compares_means_over_the_same_domains():
    rows = [
        row("a", 0.6, oracle=0.8, popularity=0.5),
        row("b", 0.8, oracle=None, popularity=0.6),
        row("c", None, oracle=None, popularity=None),  # one class only
        row("a", 0.55, oracle=0.7, popularity=0.5, part="cold_items"),
        row("a", 0.1, part="warm_items"),
        row("a", 0.9, oracle=0.95, task="buy"),
    ]
    found = summary(rows, dict.fromkeys(("click", "buy"), MEASURES))
    assert found["click"]["all"] == pytest.approx(
        {"domains": 2, "auc": 0.7, "oracle_auc": None, "popularity_auc": 0.55}
    )
    assert found["click"]["cold_items"] == {"domains": 1, "auc": 0.55, "oracle_auc": 0.7, "popularity_auc": 0.5}
    assert set(found["click"]) == {"all", "cold_items"}
    assert found["buy"] == {"all": {"domains": 1, "auc": 0.9, "oracle_auc": 0.95, "popularity_auc": None}}
    assert summary([], {}) == {}
