"""A training that goes on from another one's: rows of managed ids, and what the optimizers have learned of gradients."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.experiment import Experiment
from foundrank.data.counting.counting_pass import count
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from foundrank.data.vocabulary.managed import ManagedIds
from foundrank.dist.fine_tuning.begin import begin_from
from foundrank.dist.fine_tuning.pretrained import pretrained
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.run.checkpoint_writer import load
from foundrank.dist.run.kept_checkpoints import best
from foundrank.dist.run.run_folder import open_run
from foundrank.dist.sharding.shard import shard
from foundrank.dist.train.optimizer import Optimizer
from foundrank.model.representation.embedding_tables import initial_rows

from .harness import run_ranks
from .rank_work import dense_of, sparse_state_of, tables_of, train_run, whole

KNOWN, NEW = "only=[shop_feed]", "only=[shop_search, shop_feed, video_search, video_feed]"  # more rows, and other ids
MANAGED = (
    *("entities.item.encoding=managed", "entities.item.rows=60", "entities.item.features.brand.encoding=managed"),
    *("entities.item.features.brand.rows=8", "training.sparse_learning_rate=0.5"),
)
PLANS = [(1, "auto"), (2, "column_wise"), (2, "row_wise"), (3, "row_wise"), (3, "table_wise")]


@pytest.fixture(scope="module")
def base(small, tmp_path_factory) -> Path:
    """A run on two ranks whose tables of items and brands have fewer rows than there are."""
    run = tmp_path_factory.mktemp("base") / "run"
    run_ranks(train_run, 2, small(KNOWN, *MANAGED, "training.sharding=row_wise", "training.keep_best=false"), run)
    return run


def state_of(sharded: Any, optimizer: Optimizer) -> tuple[Any, Any, Any, Any]:
    """Tables, dense part, moments of rows, state of the dense part's optimizer by name."""
    dense = optimizer.dense_state()["state"]
    named = {
        name: {what: value.numpy() for what, value in dense[at].items()}
        for at, name in enumerate(optimizer.names)
        if at in dense
    }
    return tables_of(sharded), dense_of(sharded), sparse_state_of(sharded), named


def trained(runtime: Runtime, run: Path) -> tuple[Any, ...]:
    experiment, statistics = open_run(run)
    sharded = shard(statistics.layout(experiment), experiment, runtime)
    optimizer = Optimizer(sharded, experiment.training)
    load(best(run), sharded, optimizer)
    return state_of(sharded, optimizer)


def begun(runtime: Runtime, experiment: Experiment) -> tuple[Any, ...]:
    base = pretrained(experiment)
    events = check_events(experiment, ["train"])
    counted = count(experiment, {name: splits["train"] for name, splits in events.items()})
    encoder = RowEncoder(experiment, base.statistics.extended(counted))
    sharded = shard(encoder.layout, experiment, runtime)
    optimizer = Optimizer(sharded, experiment.training)
    told = begin_from(base, sharded, encoder, runtime, 0, optimizer)
    return *state_of(sharded, optimizer), encoder.statistics, told


@pytest.mark.parametrize(("ranks", "sharding"), PLANS)
def test_what_the_optimizers_have_learned_goes_on(base, small, ranks, sharding):
    again = small(KNOWN, *MANAGED, f"init_from={base}", "init_optimizer=true", f"training.sharding={sharding}")
    parts = run_ranks(begun, ranks, again)
    ((tables, dense, moments, state),) = run_ranks(trained, 1, base)
    known, was = whole([tables]), whole([moments])
    for name, rows in whole([part[0] for part in parts]).items():
        np.testing.assert_array_equal(rows, known[name])
    for name, moment in whole([part[2] for part in parts]).items():
        assert was[name].any() == (name != "id_query.momentum1"), name  # no query in the feed
        for of_shard in moment.reshape(-1, len(was[name])):
            np.testing.assert_array_equal(of_shard, was[name])
    for _, mine, _, named, _, told in parts:
        for name, value in mine.items():
            np.testing.assert_array_equal(value, dense[name])
        assert named.keys() == state.keys()
        assert len(named) > 20
        for name, of in named.items():
            for what, value in of.items():
                np.testing.assert_array_equal(value, state[name][what])
        assert "optimizer's state of" in told[-1]


@pytest.mark.parametrize(("ranks", "sharding"), PLANS)
def test_a_reused_row_gives_nothing_of_its_former_owner_away(base, small, ranks, sharding):
    experiment = small(
        NEW, *MANAGED, f"init_from={base}", "init_optimizer=true", f"training.sharding={sharding}",
        "entities.item.rows=70", "entities.item.window=1", "entities.item.features.brand.window=1",
    )  # fmt: skip
    parts = run_ranks(begun, ranks, experiment)
    ((tables, _, moments, _),) = run_ranks(trained, 1, base)
    known, was, before = whole([tables]), whole([moments]), open_run(base)[1]
    statistics = parts[0][4]
    found, carried = whole([part[0] for part in parts]), whole([part[2] for part in parts])
    reused = 0
    for table in ("id_item", "feature_brand"):
        left, new = statistics.tables[table].changed(before.tables[table])
        rows = statistics.tables[table].rows
        moment = carried[f"{table}.momentum1"].reshape(-1, rows)
        old = was[f"{table}.momentum1"]
        kept = np.setdiff1d(np.arange(len(known[table])), np.union1d(left, new))
        np.testing.assert_array_equal(found[table][kept], known[table][kept])
        for of_shard in moment:
            np.testing.assert_array_equal(of_shard[kept], old[kept])
            assert not of_shard[np.union1d(left, new)].any()
        assert old[left].any()
        reused += len(left)
        if table == "feature_brand":  # without contents
            given_up = torch.from_numpy(statistics.tables[table].state.rows.given_up[left])
            values = initial_rows(table, experiment.seed, torch.from_numpy(left), range(8), 8, given_up)
            np.testing.assert_array_equal(found[table][left], values.numpy())
            first = initial_rows(table, experiment.seed, torch.from_numpy(left), range(8), 8)
            assert not np.isin(values.numpy(), first.numpy()).any()  # not what the owner before began with, either
    assert reused > 5
    assert len(found["id_item"]) == 71


def test_managed_ids_with_room_for_all_train_as_a_vocabulary(small, tmp_path):
    more = ("training.keep_best=false", "training.max_steps=12")
    run_ranks(train_run, 2, small(KNOWN, *more, "training.sharding=row_wise"), tmp_path / "exact")
    rows = open_run(tmp_path / "exact")[1].tables["id_item"].rows - 1
    managed = ("entities.item.encoding=managed", f"entities.item.rows={rows}")
    for ranks, sharding in PLANS:
        run = tmp_path / f"{ranks}-{sharding}"
        run_ranks(train_run, ranks, small(KNOWN, *more, *managed, f"training.sharding={sharding}"), run)
    exact, tables = (run_ranks(trained, 1, tmp_path / name)[0][0] for name in ("exact", "2-row_wise"))
    for name, values in whole([exact]).items():
        np.testing.assert_array_equal(values, whole([tables])[name])
    assert isinstance(open_run(tmp_path / "1-auto")[1].tables["id_item"], ManagedIds)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("training.sparse_optimizer=sgd", "tables trained by rowwise_adagrad"),
        ("training.optimizer=sgd", "was trained by adamw"),
    ],
)
def test_another_optimizers_state_is_refused_before_the_work(base, small, change, words):
    with pytest.raises(UserError, match=words):
        pretrained(small(KNOWN, *MANAGED, f"init_from={base}", "init_optimizer=true", change))


def test_what_was_frozen_would_stay_so(base, small, tmp_path):
    frozen = small(KNOWN, *MANAGED, f"init_from={base}", "training.freeze=[L0]", "training.max_steps=1")
    run_ranks(train_run, 1, frozen, tmp_path / "frozen")
    with pytest.raises(UserError, match="had L0 frozen"):
        pretrained(small(KNOWN, *MANAGED, f"init_from={tmp_path / 'frozen'}", "init_optimizer=true"))


def test_fewer_rows_than_before_are_refused(base, small):
    experiment = small(KNOWN, *MANAGED, f"init_from={base}", "entities.item.rows=59")
    train = {name: splits["train"] for name, splits in check_events(experiment, ["train"]).items()}
    with pytest.raises(UserError, match="as many `rows`"):
        pretrained(experiment).statistics.extended(count(experiment, train))
