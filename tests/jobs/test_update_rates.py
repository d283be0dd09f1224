"""Updating a run whose model has rates: they go on from day to day, and so does a scorer that follows."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foundrank as foundrank_module
from foundrank.data.arrow.ids import id_keys
from foundrank.data.counting.statistics import Statistics
from foundrank.data.rates.rates import UNSEEN
from foundrank.dist.run.run_folder import INCREMENTS
from foundrank.scorer import Scorer

from .commands import COMMAND, WITHOUT_DROPOUT, Here, foundrank, settings
from .updates import assert_same, current, day, kill_at, record, simulated_feed

RATED = settings(
    *WITHOUT_DROPOUT, "text.vectors=random", "training.epochs=2", "training.batch_size=32", "training.checkpoint_every=5",
    "model.rates=true", "entities.item.encoding=managed", "entities.item.rows=60", "entities.item.expire_after=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten days of a feed, four of which are trained on, and their run, ``RUN``."""
    folder = simulated_feed(tmp_path_factory.mktemp("rated"))
    foundrank("train", folder, "--run-dir", folder / "RUN", "-p", 2, *RATED)
    return folder


@pytest.fixture(scope="module")
def undisturbed(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run after two days, on two ranks."""
    run = Path(shutil.copytree(feed / "RUN", tmp_path_factory.mktemp("undisturbed") / "run"))
    for number in (6, 7):
        foundrank("update", run, "--events", day(feed, number), "-p", 2, "--keep", 9)
    return run


def test_sums_are_those_of_all_days_that_were_learned(feed: Path, undisturbed: Path):
    days = [pq.read_table(feed / f"events/feed/day=2026-01-{number:02d}") for number in (1, 2, 3, 4, 6, 7)]
    of_users = pa.concat_tables(days).group_by("user").aggregate([("click", "count"), ("click", "sum")])
    statistics = Statistics.load(current(undisturbed) / "vocabulary")
    assert statistics.rates is not None
    assert statistics.rates.so_far is not None
    assert statistics.rates.parts.of_increment
    table = statistics.rates.so_far.tables["id_user"]
    rows = statistics.tables["id_user"].lookup(id_keys(of_users["user"].combine_chunks())[0])
    order = np.argsort(rows)
    np.testing.assert_array_equal(table.ids, rows[order])
    wanted = np.stack([of_users["click_count"].to_numpy(), of_users["click_sum"].to_numpy()], 1)
    at = statistics.rates.so_far.tasks.index("click")
    np.testing.assert_array_equal(table.sums[:, 2 * at : 2 * at + 2], wanted[order])
    # Of items, what those have that still have their row.
    lines = record(undisturbed)
    assert all(line["ids"]["id_item"]["given_up"] > 0 for line in lines)
    items = statistics.rates.so_far.tables["id_item"]
    owned = statistics.tables["id_item"].lookup(statistics.tables["id_item"].keys)
    assert set(items.ids.tolist()) <= set(owned.tolist())
    np.testing.assert_array_equal(items.sums[:, 2 * at], statistics.tables["id_item"].counts[items.ids])


def test_rates_are_the_same_on_other_ranks_and_after_a_kill(feed: Path, undisturbed: Path, tmp_path: Path):
    alone, killed = (Path(shutil.copytree(feed / "RUN", tmp_path / name)) for name in ("alone", "killed"))
    foundrank("update", alone, "--events", day(feed, 6))
    first = undisturbed / record(undisturbed)[0]["run"] / "vocabulary"
    files = sorted(first.glob("rates_*.npy"))
    assert len(files) == 4
    for file in files:
        assert file.read_bytes() == (current(alone) / "vocabulary" / file.name).read_bytes(), file.name
    foundrank("update", killed, "--events", day(feed, 6), "-p", 2)
    kill_at(killed, [*COMMAND, "update", str(killed), "--events", day(feed, 7), "-p", "2"], "counted")
    foundrank("update", killed, "--events", day(feed, 7), "-p", 2)
    assert [line["before"] for line in record(killed)] == [line["before"] for line in record(undisturbed)]
    assert_same(current(killed), current(undisturbed))


def test_a_scorer_that_follows_has_the_rates_of_one_that_is_loaded(
    feed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = Path(shutil.copytree(feed / "RUN", tmp_path / "run"))
    rows = pq.read_table(feed / "events/feed/day=2026-01-09")
    following = foundrank_module.load(run)
    # Vocabularies of users grow, and scorers would load a version whole.
    for number in (6, 7):
        foundrank("update", run, "--events", day(feed, number), "--set", "entities.user.encoding=managed", "--set", "entities.user.rows=900")  # fmt: skip
        if number == 6:
            assert following.refresh()
            continue
        before = following.score(rows, "feed")
        with monkeypatch.context() as patched:
            patched.setattr(Scorer, "_load", None)  # small updates alone
            assert following.refresh()
        assert following.score(rows, "feed").equals(foundrank_module.load(run).score(rows, "feed"))
        assert not following.score(rows, "feed").equals(before)
        there = {path.name for path in (run / "deltas" / "00002" / "statistics").glob("rates_*")}
        assert there == {"rates_cells.npy", "rates_values.npy"}


def test_a_fine_tuning_counts_its_own_events_alone(feed: Path, tmp_path: Path):
    """Though it goes on with the optimizers' state, it may have been shown the same events before."""
    more = settings(f"init_from={feed / 'RUN'}", "init_optimizer=true", f"domains.feed.events.train={day(feed, 6)}")
    foundrank("train", feed, "--run-dir", tmp_path / "run", *RATED, *more, "--set", "training.epochs=1")
    before, now = (Statistics.load(run / "vocabulary").rates for run in (feed / "RUN", tmp_path / "run"))
    assert before is not None
    assert now is not None
    assert now.so_far is not None
    assert not now.parts.of_increment
    assert now.moments == before.moments
    rows = pq.read_table(feed / "events/feed/day=2026-01-06").num_rows
    assert now.so_far.tables["id_user"].sums[:, 0].sum() == rows


def test_a_run_that_has_kept_no_sums_is_read_and_not_updated(feed: Path, tmp_path: Path, here: Here):
    old = Path(shutil.copytree(feed / "RUN", tmp_path / "old"))
    statistics = Statistics.load(feed / "RUN" / "vocabulary")
    assert statistics.rates is not None
    shutil.rmtree(old / "vocabulary")
    replace(statistics, rates=replace(statistics.rates, so_far=None)).save(old / "vocabulary")
    status, told = here("update", old, "--events", day(feed, 6))
    assert status == 2
    told = " ".join(told.split())
    assert "has not kept the sums of labels that model.rates are made of" in told
    assert "Train it again" in told
    assert not (old / INCREMENTS).exists()
    rows = pq.read_table(feed / "events/feed/day=2026-01-09")
    scores = foundrank_module.load(old).score(rows, "feed")
    assert scores.equals(foundrank_module.load(feed / "RUN").score(rows, "feed"))


def test_rates_of_forgotten_ids_are_gone(feed: Path, undisturbed: Path, tmp_path: Path):
    run = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    before = Statistics.load(current(run) / "vocabulary")
    items = pq.read_table(feed / "events/feed/day=2026-01-07")["item"].unique()[:5]
    pq.write_table(pa.table({"item": items}), tmp_path / "gone.parquet")
    keys, _ = id_keys(items)
    rows = before.tables["id_item"].lookup(keys)
    assert (rows > 0).any()
    foundrank("update", run, "--forget", f"item={tmp_path / 'gone.parquet'}")
    now = Statistics.load(current(run) / "vocabulary")
    assert before.rates is not None
    assert now.rates is not None
    assert before.rates.so_far is not None
    assert now.rates.so_far is not None
    for name, table in now.rates.so_far.tables.items():
        then = before.rates.so_far.tables[name]
        kept = ~np.isin(then.ids, rows) if name == "id_item" else np.ones(len(then.ids), bool)
        assert kept.all() == (name != "id_item")
        np.testing.assert_array_equal(table.ids, then.ids[kept])
        np.testing.assert_array_equal(table.sums, then.sums[kept])
    for name, table in now.rates.tables.items():
        then, ids = before.rates.tables[name], np.arange(before.tables["id_item"].rows)
        mine, others = (of.known(ids, now.rates.parts, None)[0] for of in (table, then))
        same = ~np.isin(ids, rows) if name == "id_item" else np.ones(len(ids), bool)
        np.testing.assert_array_equal(mine[same], others[same])
        unknown, _ = then.known(np.full(len(ids), UNSEEN), now.rates.parts, None)
        np.testing.assert_array_equal(mine[~same], unknown[~same])
    foundrank("update", run, "--events", day(feed, 8))
    assert [one["rows"] > 0 for one in record(run)] == [True, True, False, True]
