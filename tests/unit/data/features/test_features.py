"""The kinds of features, each by itself: what it counts, what it makes of a column, and what it says of that."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from foundrank.data.arrow.column_types import holds
from foundrank.data.arrow.ids import id_keys
from foundrank.data.errors import UserError
from foundrank.data.features import FEATURES
from foundrank.data.features.counts import Counts
from foundrank.data.features.dense import Dense
from foundrank.data.schema.bad_values import refuse_beside, without_bad_values

COLUMNS = {
    "categorical": {"f": pa.array(["a", None, "b", "a"])},
    "list": {"f": pa.array([["a", None], None, ["b", "a", "c"], []])},
    "weighted_list": {
        "f": pa.array([["a", None, "d"], None, ["b", "a", "c", "c"], []]),
        "w": pa.array([[2, 1, 0], None, [9.0, 1.0, 2.0, None], []]),
    },
    "dense": {"f": pa.array([1.0, None, 3.0, 8.0])},
    "bucketed": {"f": pa.array([1.0, None, 3.0, 8.0])},
    "vector": {"f": pa.array([[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0]])},
}
SETTINGS = {"list": {"max_length": 2}, "weighted_list": {"max_length": 2, "weights": "w"}, "vector": {"size": 2}}


def made(kind: str, **settings):
    return FEATURES[kind](kind=kind, **(SETTINGS.get(kind, {}) | settings))


@pytest.mark.parametrize("kind", FEATURES)
@pytest.mark.parametrize("weights", [None, np.array([2, 1, 0, 3])])
def test_a_kind_encodes_what_it_says_it_is_in_a_batch(kind, weights):
    feature, table = made(kind), pa.table(COLUMNS[kind])
    assert all(holds(table[need.name].type, need.holds, need.size) for need in feature.needs("f", "here"))
    counts = Counts()
    feature.count("f", table, "here", counts, weights)
    found = feature.encode("f", table, "here", SimpleNamespace(tables=counts.tables(), dense=counts.dense()))
    inputs = feature.inputs("f")
    assert tuple(found.singles) == inputs.singles
    assert tuple(found.lists) == tuple(inputs.lists)
    assert tuple(found.dense) == inputs.dense
    assert tuple(found.vectors) == tuple(inputs.vectors)
    assert set(inputs.encodings) == set(inputs.keys) == set(counts.tables())
    assert all(len(values) == 4 for values in (*found.singles.values(), *found.dense.values()))
    for key, (_, offsets) in found.lists.items():
        assert np.diff(offsets).max() == inputs.lists[key]
    assert tuple(found.weights) == inputs.weighted
    for name, (vectors, present) in found.vectors.items():
        assert vectors.shape == (4, inputs.vectors[name])
        assert present.tolist() == [True, False, True, True]


@pytest.mark.parametrize(
    ("weights", "expected"), [(None, {"a": 2, "b": 1}), (np.array([2, 1, 0, 3]), {"a": 5, "b": 0})]
)
def test_ids_are_counted_as_often_as_training_shows_them(weights, expected):
    counts, feature = Counts(), made("categorical")
    feature.count("f", pa.table(COLUMNS["categorical"]), "here", counts, weights)
    table = counts.tables()["feature_f"]
    rows = feature.encode("f", pa.table({"f": ["a", "b"]}), "here", SimpleNamespace(tables=counts.tables(), dense={}))
    assert table.counts[rows.singles["feature_f"]].tolist() == [*expected.values()]


@pytest.mark.parametrize("transform", ["none", "log1p"])
def test_a_number_is_standardised_after_its_transform(transform):
    counts, feature = Counts(), Dense(kind="dense", transform=transform)
    feature.count("f", pa.table(COLUMNS["dense"]), "here", counts, None)
    known = [math.log1p(value) if transform == "log1p" else value for value in (1.0, 3.0, 8.0)]
    mean, deviation = np.mean(known), np.std(known)
    assert counts.dense()["f"] == pytest.approx((mean, deviation))
    found = feature.encode("f", pa.table(COLUMNS["dense"]), "here", SimpleNamespace(tables={}, dense=counts.dense()))
    expected = [(known[0] - mean) / deviation, 0, (known[1] - mean) / deviation, (known[2] - mean) / deviation]
    np.testing.assert_allclose(found.dense["f"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        *(("dense", s) for s in ("buckets", "min_count", "encoding", "max_length", "size")),
        *(("vector", s) for s in ("transform", "buckets", "max_length")),
        *(("bucketed", s) for s in ("transform", "min_count", "encoding", "max_length", "size")),
        *(("categorical", s) for s in ("transform", "size", "max_length")),
        *(("list", s) for s in ("transform", "size", "weights")),
        *(("weighted_list", s) for s in ("transform", "size")),
    ],
)
def test_a_kind_has_its_own_settings_and_no_other(kind, setting):
    with pytest.raises(ValidationError, match="extra_forbidden"):
        made(kind, **{setting: 3})


MANAGED = dict.fromkeys(("rows", "window", "expire_after"), "encoding: managed")


@pytest.mark.parametrize(
    ("settings", "useless"),
    [
        ({"encoding": "hash"}, {"min_count": "encoding: vocab or managed"} | MANAGED),
        ({"encoding": "vocab"}, {"buckets": "encoding: hash"} | MANAGED),
        ({"encoding": "managed"}, {"buckets": "encoding: hash"}),
        ({}, {"buckets": "encoding: hash"} | MANAGED),
    ],
)
def test_an_encoding_has_its_own_settings_and_no_other(settings, useless):
    assert made("categorical", **settings).without_effect() == useless


def test_a_resolved_encoding_shows_the_default_of_its_own_setting():
    assert made("categorical").model_dump(exclude_none=True, include={"encoding", "min_count", "buckets"}) == {
        "encoding": "vocab",
        "min_count": 1,
    }
    assert made("list", encoding="hash").buckets == 100_000


@pytest.mark.parametrize(
    ("settings", "rows"),
    [({"buckets": 2}, [1, -1, 2, 2]), ({"boundaries": (3.0, 9.0)}, [1, -1, 2, 2]), ({}, [1, -1, 2, 3])],
)
def test_a_number_in_a_bucket_is_looked_up_and_a_missing_one_is_not(settings, rows):
    counts, feature, table = Counts(), made("bucketed", **settings), pa.table(COLUMNS["bucketed"])
    feature.count("f", table, "here", counts, None)
    found = feature.encode("f", table, "here", SimpleNamespace(tables=counts.tables(), dense={}))
    assert found.singles["feature_f"].tolist() == rows
    assert counts.tables()["feature_f"].rows <= (feature.ids.table_rows() or 0)
    assert made("bucketed", **feature.model_dump(exclude_none=True, exclude={"kind"})) == feature
    bad = pa.table({"f": [1.0, float("nan")]})
    with pytest.raises(UserError, match="here: column 'f', row 1: the value is nan"):
        feature.encode("f", bad, "here", SimpleNamespace(tables=counts.tables(), dense={}))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"boundaries": [1.0, 1.0]}, "must increase"),
        ({"boundaries": [0.7, 0.70000000001]}, "rounded to float32"),
        ({"boundaries": []}, "at least 1 item"),
        ({"boundaries": [1.0], "buckets": 3}, "not both"),
        ({"buckets": 1}, "greater than or equal to 2"),
    ],
)
def test_buckets_are_described_in_one_way(settings, told):
    with pytest.raises(ValidationError, match=told):
        made("bucketed", **settings)


def of_lists(table, **settings) -> tuple[list[list[str]], list[list[float]]]:
    """What a weighted list makes of a table: the ids of each row, and their weights."""
    feature, counts = made("weighted_list", **settings), Counts()
    feature.count("f", table, "here", counts, None)
    tables = counts.tables()
    found = feature.encode("f", table, "here", SimpleNamespace(tables=tables, dense={}))
    (rows, offsets), (weights, same) = found.lists["feature_f"], found.weights["feature_f"]
    assert offsets.tolist() == same.tolist()
    names = dict(zip(tables["feature_f"].lookup(id_keys(pa.array(list("abcd")))[0]).tolist(), "abcd", strict=True))
    parts = list(pairwise(offsets.tolist()))
    return [[names[row] for row in rows[a:b].tolist()] for a, b in parts], [weights[a:b].tolist() for a, b in parts]


def test_weights_are_one_on_the_mean_and_ids_without_one_have_no_part():
    table = pa.table(COLUMNS["weighted_list"] | {"n": pa.array([[0, 0, 0], [], None, None])})
    ids, weights = of_lists(table)
    assert ids == [["a"], [], ["a", "c"], []]
    assert weights[0] == [1.0]
    assert weights[2] == pytest.approx([2 / 3, 4 / 3])
    assert of_lists(table, weights="n")[0] == [[], [], [], []]  # all 0, or nothing said: nothing is looked up


def test_times_become_weights_that_halve_with_age():
    ids, day = pa.array([["a", "b", "c"], ["a"], ["b", "c"]]), 86_400
    times = pa.array([[0, 2 * day, None], [7], [3 * day, 4 * day]])
    named, weights = of_lists(
        pa.table({"f": ids, "t": times}), weights=None, times="t", half_life_days=1.0, max_length=9
    )
    assert named == [["a", "b"], ["a"], ["b", "c"]]
    assert weights[0] == pytest.approx([2 / 5, 8 / 5])
    assert weights[2] == pytest.approx([2 / 3, 4 / 3])


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ([[1.0, 1.0], [1.0, -1.0]], "column 'w', row 1: holds weights that are no numbers from 0 to 1e.30"),
        ([[1.0, 1.0], [1.0, math.nan]], "column 'w', row 1: holds weights that are no numbers"),
        ([[1.0, 1.0], [1.0]], "column 'w', row 1: has not as many weights as ids. Write one weight per id."),
    ],
)
def test_bad_weights_are_told_or_skipped(weights, told):
    table, feature = pa.table({"f": [["a", "b"], ["c", "d"]], "w": pa.array(weights)}), made("weighted_list")
    with pytest.raises(UserError, match=told):
        feature.count("f", table, "here", Counts(), None)
    left, found = without_bad_values(table, feature.needs("f", "context.f"))
    assert [(bad.row, bad.column) for bad in found] == [(1, "w")]
    assert left.to_pylist() == [table.to_pylist()[0], {"f": None, "w": None}]
    with pytest.raises(UserError, match="Write one per id"):
        refuse_beside(table, feature.needs("f", "context.f"), "here")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"weights": None}, "give either `weights` or `times`"),
        ({"times": "t", "half_life_days": 1.0}, "give either `weights` or `times`"),
        ({"weights": None, "times": "t"}, "`times` and `half_life_days` go together"),
        ({"half_life_days": 1.0}, "`times` and `half_life_days` go together"),
        ({"weights": None, "times": "t", "half_life_days": 0.0}, "greater than 0"),
    ],
)
def test_a_weighted_list_has_weights_or_times(settings, told):
    with pytest.raises(ValidationError, match=told):
        made("weighted_list", **settings)
