"""Weights of labels: which column they come from, what null and 0 mean, and that they go where their rows go."""

import math

import numpy as np
import pyarrow as pa
import pytest

from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.batch.rows import concatenate
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment, plain
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from foundrank.data.schema.bad_values import without_bad_values
from foundrank.data.schema.column_needs import needed_columns
from foundrank.model.kinds import KINDS
from tests.tiny_world import SCHEMAS, encoder_of, random_events, train_files, write_world
from tests.toy_task import Amount

ROWS = {"find": 30, "home": 20, "new": 20}
WEIGHED = {"find": {"click": "clicks", "buy": "hour"}, "home": {}, "new": {"like": "clicks"}}


def weighted(experiment: Experiment, **changes) -> Experiment:
    """`find` weighs its labels by clicks, but buys by the hour; `new` only likes; `home` none."""
    raw = plain(experiment)
    raw["domains"]["find"]["sample_weight"] = "clicks"
    raw["domains"]["find"]["tasks"]["buy"]["sample_weight"] = "hour"
    raw["domains"]["new"]["tasks"]["like"]["sample_weight"] = "clicks"
    for name, change in changes.items():
        raw["domains"][name] |= change
    return load_experiment(raw, kinds=KINDS.with_(tasks={"amount": Amount}))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    events = random_events(3, ROWS)
    experiment = weighted(write_world(tmp_path_factory.mktemp("weights"), events, seed=3))
    return experiment, events, encoder_of(experiment)


def encode(encoder: RowEncoder, domain: str, rows, **options):
    schema = SCHEMAS[domain]
    return encoder.encode(
        domain,
        pa.Table.from_pylist([{n: row[n] for n in schema.names} for row in rows], schema=schema),
        "events",
        **options,
    )


def test_each_label_has_the_weight_of_its_column_and_1_where_nothing_is_said(world):
    _, events, encoder = world
    tasks = encoder.layout.tasks
    parts = []
    for name, rows in events.items():
        encoded = encode(encoder, name, rows)
        wanted = [
            [1.0 if (c := WEIGHED[name].get(t)) is None or row[c] is None else row[c] for t in tasks] for row in rows
        ]
        assert encoded.weights.dtype == np.float32
        assert encoded.weights.tolist() == wanted
        parts.append(encoded.take(np.arange(len(rows))[::-1]))
    batch = encoder.assemble(parts, sum(ROWS.values()))
    assert batch.weights.tolist() == np.concatenate([part.weights for part in parts]).tolist()
    first = parts[0]
    again = concatenate([first.slice(0, 7), first.slice(7, len(first))])
    assert again.weights.tolist() == first.weights.tolist()
    assert first.nbytes > encoder_of_unweighted(world).encode("find", table_of("find", events), "x").nbytes


def table_of(name, events):
    return pa.Table.from_pylist(
        [{n: row[n] for n in SCHEMAS[name].names} for row in events[name]], schema=SCHEMAS[name]
    )


def encoder_of_unweighted(world) -> RowEncoder:
    raw = plain(world[0])
    for domain in raw["domains"].values():
        for section in (domain, *domain["tasks"].values()):
            section.pop("sample_weight", None)
            section.pop("weighted_metrics", None)
    return encoder_of(load_experiment(raw, kinds=KINDS))


def test_without_weights_there_is_no_column_of_ones(world):
    _, events, _ = world
    encoder = encoder_of_unweighted(world)
    parts = [encode(encoder, name, rows) for name, rows in events.items()]
    assert all(part.weights is None for part in parts)
    assert concatenate([parts[0], parts[0]]).weights is None
    assert encoder.assemble(parts, 99).weights is None


def test_a_label_of_weight_0_is_nothing_to_learn_from(world):
    _, events, encoder = world
    for name, tasks in encoder.statistics.labels.items():
        for task, (labels, total) in tasks.items():
            known = [
                row[task]
                for row in events[name]
                if row[task] is not None and ((c := WEIGHED[name].get(task)) is None or row[c] is None or row[c] > 0)
            ]
            assert (labels, total) == (len(known), sum(known))
    taken = {"item": 1, "click": 1.0, "buy": True, "clicks": 0, "hour": 0}
    rows = [events["find"][0] | taken | change for change in ({}, {"clicks": 2}, {"hour": 3}, {"clicks": None})]
    assert encode(encoder, "find", rows).chosen.tolist() == [False, True, True, True]


def test_scoring_asks_for_no_weights(world):
    experiment, _, encoder = world
    assert {n.name: n.field for n in needed_columns(experiment, "find") if n.holds == "weight"} == {
        "clicks": "domains.find.sample_weight",
        "hour": "domains.find.tasks.buy.sample_weight",
    }
    assert not [n for n in needed_columns(experiment, "find", with_labels=False) if n.holds == "weight"]
    assert (encoder.no_rows().weights.shape, encoder.assemble([encoder.no_rows()], 2).weights.shape) == ((0, 3), (0, 3))


@pytest.mark.parametrize(("value", "shown"), [(-1.0, "-1"), (math.nan, "nan"), (math.inf, "inf"), (1e31, r"1e\+31")])
def test_a_weight_that_is_none_is_refused_before_work_starts(tmp_path, value, shown):
    events = random_events(5, ROWS)
    experiment = weighted(write_world(tmp_path, events), new={"sample_weight": "w"})
    path = tmp_path / "new" / "part-000.parquet"
    table = pa.parquet.read_table(path)
    values = pa.array([1.0, 0.0, None, value, *[2.5] * (len(table) - 4)])
    pa.parquet.write_table(table.append_column("w", values), path)
    with pytest.raises(UserError, match=rf"part-000.parquet: column 'w', row 3 of row group 0: the weight is {shown}"):
        check_events(experiment)
    left, found = without_bad_values(pa.parquet.read_table(path), needed_columns(experiment, "new"))
    assert [(bad.row, bad.column) for bad in found] == [(3, "w")]
    assert left["click"][3].as_py() is left["like"][3].as_py() is left["w"][3].as_py() is None


def test_whole_numbers_and_booleans_are_weights_and_the_footer_tells_that_they_are_good(tmp_path, monkeypatch):
    events = random_events(5, ROWS)
    experiment = weighted(write_world(tmp_path, events), new={"sample_weight": "w"})
    path = tmp_path / "new" / "part-000.parquet"
    table = pa.parquet.read_table(path)
    for values in (pa.array([7] * len(table)), pa.array([True] * len(table)), pa.nulls(len(table))):
        pa.parquet.write_table(table.append_column("w", values), path)
        train_files(experiment)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"home": {"weighted_metrics": True}}, r"home.weighted_metrics: has no effect without sample_weight"),
        (
            {"find": {"weighted_metrics": True, "tasks": {"spent": {"kind": "amount", "label": "rank"}}}},
            r"find.weighted_metrics: is true, but metrics of task 'spent' take no weights. Leave it false",
        ),
    ],
)
def test_weighted_metrics_need_weights_and_kinds_that_take_them(world, change, words):
    with pytest.raises(UserError, match=words):
        weighted(world[0], **change)
    weighted(world[0], find={"weighted_metrics": True})
