import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.arrow.ids import hash_rows, id_keys
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.task import Scale
from foundrank.data.counting.counting_pass import count
from foundrank.data.counting.statistics import Statistics
from foundrank.data.errors import UserError
from foundrank.data.vocabulary.vocabulary import HashedIds, Vocabulary
from foundrank.model.kinds import KINDS
from tests.tiny_world import catalogs, random_events, train_files, write_world
from tests.toy_task import Band

CATALOG_SEED = 6  # items 6 and 7 and user u5 have a value of every feature


def key_of(value) -> int:
    return int(id_keys(pa.array([value]))[0][0])


def counts_of(table: Vocabulary, values) -> dict:
    """Value -> its count, of the values that have a row of their own."""
    rows = {v: int(table.lookup(np.array([key_of(v)], np.uint64))[0]) for v in values}
    return {v: int(table.counts[row]) for v, row in rows.items() if row}


def column(rows, name) -> list:
    return [row[name] for row in rows if row[name] is not None]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Events over several files and row groups, and what brute force finds in them."""
    folder = tmp_path_factory.mktemp("world")
    events = random_events(3, {"find": 45, "home": 40, "new": 25})
    for row in (row for of_domain in events.values() for row in of_domain):
        row["item"] = None if row["item"] in (6, 7) else row["item"]
        row["user"] = None if row["user"] == "u5" else row["user"]
    events["find"][9]["item"] = 7  # in the catalog and seen once; item 6 and user u5 are in their catalogs only
    experiment = write_world(folder, events, seed=CATALOG_SEED, files=3, group=4)
    return experiment, events, count(experiment, train_files(experiment))


def test_ids_are_counted_over_all_domains(world):
    _, events, statistics = world
    rows = [row for of_domain in events.values() for row in of_domain]
    users, items = Counter(column(rows, "user")), Counter(column(rows, "item"))
    assert counts_of(statistics.tables["id_user"], users) == users
    assert statistics.tables["id_user"].rows == len(users) + 1
    frequent = {v: n for v, n in items.items() if n >= 2}  # min_count: 2
    assert counts_of(statistics.tables["id_item"], items) == frequent
    assert statistics.tables["id_item"].rows == len(frequent) + 1


def test_hashed_ids_are_counted_per_bucket(world):
    _, events, statistics = world
    expected = np.zeros(8, np.int64)
    for query in column(events["find"], "query"):
        expected[hash_rows(np.array([key_of(query)], np.uint64), 7)[0]] += 1
    assert isinstance(statistics.tables["id_query"], HashedIds)
    assert statistics.tables["id_query"].counts[np.arange(8)].tolist() == expected.tolist()
    expected = np.zeros(6, np.int64)
    for value in (v for row in column(events["find"], "matched") for v in row if v is not None):
        expected[hash_rows(np.array([key_of(value)], np.uint64), 5)[0]] += 1
    assert statistics.tables["feature_matched"].counts[np.arange(6)].tolist() == expected.tolist()


def test_event_features(world):
    _, events, statistics = world
    rows = [row for of_domain in events.values() for row in of_domain]
    hours = Counter(column(rows, "hour"))
    assert counts_of(statistics.tables["feature_hour"], hours) == hours
    slots = Counter(column(events["find"] + events["home"], "slot"))
    assert counts_of(statistics.tables["feature_slot"], slots) == slots
    intents = Counter(column(events["find"], "intent"))
    assert counts_of(statistics.tables["feature_intent"], intents) == intents


def test_catalog_features_count_as_often_as_events_show_them(world):
    _, events, statistics = world
    rows = [row for of_domain in events.values() for row in of_domain]
    shown = Counter(column(rows, "item"))
    brands, tags = Counter(), Counter()
    for item in catalogs(CATALOG_SEED)["items"]:
        times = shown[item["item_id"]]
        brands[item["brand"]] += times
        for tag in [t for t in item["tags"] or [] if t is not None][-2:]:
            tags[tag] += times
    del brands[None]
    assert counts_of(statistics.tables["feature_brand"], brands) == {v: n for v, n in brands.items() if n}
    assert counts_of(statistics.tables["feature_tags"], tags) == {v: n for v, n in tags.items() if n}


def test_dense_means_and_deviations(world):
    _, events, statistics = world
    rows = [row for of_domain in events.values() for row in of_domain]
    shown = {kind: set(column(rows, kind)) for kind in ("user", "item")}
    of = catalogs(CATALOG_SEED)
    expected = {
        "rank": column(events["find"], "rank"),
        "clicks": [math.log1p(v) for v in column(rows, "clicks")],
        "age": column([u for u in of["users"] if u["user_id"] in shown["user"]], "age"),
        "price": [math.log1p(v) for v in column([i for i in of["items"] if i["item_id"] in shown["item"]], "price")],
    }
    assert set(statistics.dense) == set(expected)
    for name, values in expected.items():
        assert statistics.dense[name] == pytest.approx((np.mean(values), np.std(values)))


def test_labels_and_rows(world):
    _, events, statistics = world
    assert statistics.rows == {name: len(rows) for name, rows in events.items()}
    for name, tasks in {"find": ("click", "buy"), "home": ("click",), "new": ("like", "click")}.items():
        labels = {task: column(events[name], task) for task in tasks}
        assert statistics.labels[name] == {task: [len(values), sum(values)] for task, values in labels.items()}


def test_text_sizes_and_layout(world, tmp_path):
    experiment, _, statistics = world
    assert statistics.content_sizes == {"item": 4}
    layout = statistics.layout(experiment)
    assert layout.vectors["text_item"] == layout.vectors["text_history"] == 4
    assert dict(layout.tables) == {name: table.rows for name, table in statistics.tables.items()}


def test_saved_statistics_are_the_same(world, tmp_path):
    experiment, _, statistics = world
    statistics.save(tmp_path / "statistics")
    loaded = Statistics.load(tmp_path / "statistics")
    assert loaded.layout(experiment) == statistics.layout(experiment)
    assert (loaded.dense, loaded.labels, loaded.rows) == (statistics.dense, statistics.labels, statistics.rows)
    keys = id_keys(pa.array(list(range(-3, 12))))[0]
    for name, table in statistics.tables.items():
        assert type(loaded.tables[name]) is type(table)
        every = np.arange(table.rows)
        assert loaded.tables[name].counts[every].tolist() == table.counts[every].tolist()
        assert loaded.tables[name].lookup(keys).tolist() == table.lookup(keys).tolist()


@pytest.fixture(scope="module")
def scaled(tmp_path_factory):
    """Two domains with a task whose kind needs the scale of its labels, and what brute force finds in them."""
    folder = tmp_path_factory.mktemp("scaled")
    events = random_events(4, {"find": 30, "home": 20, "new": 25})
    write_world(folder, events, files=2, group=4)
    changes = [f"domains.{name}.tasks.spent={{kind: band, label: clicks}}" for name in ("find", "new")]
    experiment = load_experiment(folder, changes, kinds=KINDS.with_(tasks={"band": Band}))
    labels = np.array(column(events["find"] + events["new"], "clicks"), np.float64)
    return experiment, labels, count(experiment, train_files(experiment))


def test_a_label_has_the_scale_of_all_domains_where_its_kind_asks_for_it(scaled, tmp_path):
    experiment, labels, statistics = scaled
    assert statistics.scales == {"spent": Scale(pytest.approx(labels.mean()), pytest.approx(labels.std()))}
    statistics.save(tmp_path)
    loaded = Statistics.load(tmp_path)
    layout = loaded.layout(experiment)
    assert layout.task_scales == (Scale(), Scale(), statistics.scales["spent"], Scale())
    assert layout.tasks == ("click", "buy", "spent", "like")
    assert layout.outputs == ("click", "buy", "spent", "spent/width", "like")
    assert layout.output_tasks == (0, 1, 2, 2, 3)
    assert layout.output_kinds[2:4] == ("Band/middle", "Band/width")


def test_statistics_without_a_scale_fit_a_model_that_needs_none_alone(scaled, world, tmp_path):
    world[2].check_fits(world[0], tmp_path)
    with pytest.raises(UserError, match="says nothing of 'spent' in scales"):
        replace(scaled[2], scales={}).check_fits(scaled[0], tmp_path)


def test_a_task_keeps_its_scale_in_a_fine_tuning(scaled):
    _, _, statistics = scaled
    new = replace(statistics, scales={"spent": Scale(1.0, 2.0), "paid": Scale(3.0, 4.0)})
    assert statistics.extended(new).scales == statistics.scales | {"paid": Scale(3.0, 4.0)}
    assert statistics.extended(replace(statistics, scales={})).scales == statistics.scales  # of no new label
    assert statistics.extended(replace(statistics, scales={}, labels={})).scales == {}  # the task is gone


def test_numbers_of_a_domain_without_new_rows_keep_their_mean(world):
    statistics = world[2]
    assert statistics.dense
    assert statistics.extended(replace(statistics, dense={})).dense == statistics.dense


def test_progress_counts_every_row(world):
    experiment, events, _ = world
    told: list[int] = []
    count(experiment, train_files(experiment), told.append)
    assert sum(told) == sum(map(len, events.values()))


def test_a_feature_nobody_has_still_has_its_table(tmp_path):
    events = random_events(0, {"find": 3, "home": 3, "new": 3})
    for row in events["find"]:
        row |= {"query": None, "intent": None, "rank": None}
    for row in events["find"] + events["home"]:
        row["slot"] = None
    experiment = write_world(tmp_path, events)
    statistics = count(experiment, {name: train_files(experiment)[name] for name in ("find", "home")})
    assert statistics.tables["feature_intent"].rows == statistics.tables["feature_slot"].rows == 1
    assert statistics.tables["id_query"].rows == 8
    assert statistics.dense["rank"] == (0.0, 1.0)


def test_a_domain_without_queries_has_the_tables_of_their_features(tmp_path):
    write_world(tmp_path, random_events(1, {"find": 20, "home": 20, "new": 20}))
    experiment = load_experiment(tmp_path, ["only=[new]"], kinds=KINDS)
    statistics = count(experiment, train_files(experiment))
    statistics.check_fits(experiment, tmp_path)
    assert statistics.tables["feature_intent"].rows == 1  # of the unknown id alone


def test_without_the_text_aspect_no_text_store_is_needed(tmp_path):
    write_world(tmp_path, random_events(0, {"find": 3, "home": 3, "new": 3}))
    experiment = load_experiment(tmp_path, ["model.aspects=[id, sparse]", "text.store=absent"], kinds=KINDS)
    assert count(experiment, train_files(experiment)).content_sizes == {}


@pytest.mark.parametrize(("far", "spread"), [(0.0, 3.0), (1e8, 3.0), (-1.7e12, 1e6)])
def test_deviations_are_exact_far_from_zero(tmp_path, far, spread):
    events = random_events(0, {"find": 40, "home": 3, "new": 3})
    values = far + np.random.default_rng(0).normal(size=40) * spread
    for row, value in zip(events["find"], values, strict=True):
        row["rank"] = value
    experiment = write_world(tmp_path, events, group=7)
    mean, deviation = count(experiment, train_files(experiment)).dense["rank"]
    assert mean == pytest.approx(values.mean(), rel=1e-12)
    assert deviation == pytest.approx(values.std(), rel=1e-6)


def test_a_constant_feature_is_not_blown_up(tmp_path):
    events = random_events(0, {"find": 9, "home": 3, "new": 3})
    for row in events["find"]:
        row["rank"] = 1e6 + 0.1
    experiment = write_world(tmp_path, events, group=2)
    mean, deviation = count(experiment, train_files(experiment)).dense["rank"]
    assert (mean, deviation) == (pytest.approx(1e6 + 0.1), 1.0)


def test_a_bad_value_is_named(tmp_path):
    events = random_events(0, {"find": 9, "home": 3, "new": 3})
    events["find"][7]["clicks"] = -1
    experiment = write_world(tmp_path, events, group=4)
    with pytest.raises(UserError, match=r"part-000.parquet: row group 1: column 'clicks', row 3: the value is -1"):
        count(experiment, train_files(experiment))


def test_where_only_the_next_item_is_sought_nobody_counts_users_or_looks_them_up(world, tmp_path):
    experiment, events, ranking = world
    domains = {name: domain.model_copy(update={"tasks": {}}) for name, domain in experiment.domains.items()}
    finding = experiment.model_copy(update={"domains": domains})
    found = count(finding, train_files(finding))
    assert not {"id_user", "id_query"} & found.tables.keys()
    items = {v: n for v, n in Counter(column([r for d in events.values() for r in d], "item")).items() if n >= 2}
    assert counts_of(found.tables["id_item"], items) == items
    for statistics in (found, ranking):  # the second is as earlier versions have it in their runs
        statistics.check_fits(finding, tmp_path)
        layout = statistics.layout(finding)
        assert layout.entities == ("item",)
        assert not [key for key in (*layout.keys, *layout.tables) if key in ("id_user", "id_query")]
    encoder = RowEncoder(finding, found)
    rows = encoder.encode("find", pq.read_table(train_files(finding)["find"].row_groups[0][0]), "a file")
    assert rows.id_counts.shape[1] == 1
    assert (rows.id_counts[:, 0] > 0).any()
