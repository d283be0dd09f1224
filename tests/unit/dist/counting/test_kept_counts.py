"""What is counted once for trainings of the same data."""

from dataclasses import replace

import numpy as np
import pytest

from foundrank.data.config.load import load_experiment, plain
from foundrank.data.counting.counting_pass import count_events
from foundrank.data.counting.statistics import Statistics
from foundrank.data.events.event_files import _open_local
from foundrank.dist.counting import counted as module
from foundrank.dist.counting.kept_counts import keep_counts
from foundrank.model.kinds import KINDS
from tests.tiny_world import random_events, train_files, write_world


def counted(experiment, train, kept=None):
    return module.counted(experiment, train, None, kept)


@pytest.fixture
def world(tmp_path):
    return changed(
        write_world(tmp_path / "world", random_events(1, {"find": 30, "home": 30, "new": 20})), "model.rates=true"
    )


@pytest.fixture
def passes(monkeypatch):
    """How often the events were counted; rates are added up as often."""
    made, rates = [], []

    def noted(name, calls):
        work = getattr(module, name)

        def call(*arguments):
            calls.append(arguments)
            return work(*arguments)

        monkeypatch.setattr(module, name, call)

    noted("count_events", made)
    noted("count_rates", rates)
    yield made
    assert len(rates) == len(made)


def changed(experiment, *overrides):
    return load_experiment(plain(experiment), overrides, kinds=KINDS)


def events_of(experiment):
    return count_events(experiment, train_files(experiment))


def same(one, other):
    for name, table in one.tables.items():
        every = np.arange(table.rows)
        np.testing.assert_array_equal(other.tables[name].counts[every], table.counts[every])
    assert one.tables.keys() == other.tables.keys()
    assert one.rates is not None
    assert other.rates is not None
    assert one.rates.moments == other.rates.moments
    assert (one.labels, one.rows, one.dense, one.id_types) == (other.labels, other.rows, other.dense, other.id_types)


def test_other_rates_and_widths_take_what_was_counted(world, passes, tmp_path):
    first, of = counted(world, train_files(world), tmp_path / "counts")
    assert of["events"].keys() == world.domains.keys()
    other = changed(world, "training.learning_rate=0.5", "training.batch_size=7", "model.width=8", "seed=3", "name=b")
    again, _ = counted(other, train_files(other), tmp_path / "counts")
    assert len(passes) == 1
    same(first, again)
    other = changed(world, "model.unknown_id=learned", "model.hide_rare_items=2", "seeds=3")
    counted(other, train_files(other), tmp_path / "counts")
    assert len(passes) == 1


def test_what_changes_the_counts_is_counted(world, passes, tmp_path):
    counted(world, train_files(world), tmp_path / "counts")
    for override in ("entities.item.min_count=3", "only=[find, home]", "entities.user.features.segment.min_count=4"):
        other = changed(world, override)
        counted(other, train_files(other), tmp_path / "counts")
    assert len(passes) == 4


def test_other_events_are_counted(world, passes, tmp_path):
    counted(world, train_files(world), tmp_path / "counts")
    write_world(tmp_path / "world", random_events(2, {"find": 31, "home": 30, "new": 20}))
    _open_local.cache_clear()  # another process would look at the new files
    again, _ = counted(world, train_files(world), tmp_path / "counts")
    assert len(passes) == 2
    assert again.rows["find"] == 31
    kept, _ = counted(world, train_files(world), tmp_path / "counts")
    assert len(passes) == 2
    same(again, kept)


def test_nothing_is_kept_unasked(world, passes, tmp_path):
    before = set(tmp_path.rglob("*"))
    assert counted(world, train_files(world))[1] == {}
    counted(world, train_files(world))
    assert len(passes) == 2
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["vocabulary/id_item.parquet", "counted_of.json", "vocabulary/statistics.json"])
def test_damaged_counts_are_counted_anew(world, passes, tmp_path, name):
    first, _ = counted(world, train_files(world), tmp_path / "counts")
    [file] = (tmp_path / "counts").glob(f"*/{name}")
    file.write_bytes(file.read_bytes()[:-9])
    for _ in range(2):  # and kept
        again, _ = counted(world, train_files(world), tmp_path / "counts")
        assert len(passes) == 2
        same(first, again)
    assert len(list((tmp_path / "counts").iterdir())) == 1


def test_of_two_that_count_the_same_at_the_same_time_the_first_ones_stay(world, tmp_path):
    folder = tmp_path / "counts"
    first, of = counted(world, train_files(world), folder)
    [kept] = folder.iterdir()
    inside = kept.stat().st_ino
    keep_counts(folder, world, first, events_of(world), of)
    assert [path.stat().st_ino for path in folder.iterdir()] == [inside]


@pytest.mark.parametrize("late", [False, True])
def test_counts_that_are_replaced_while_they_are_read_are_not_taken(world, passes, tmp_path, monkeypatch, late):
    folder = tmp_path / "counts"
    first, of = counted(world, train_files(world), folder)
    other = replace(first, rows=dict.fromkeys(first.rows, 7))
    load, folders = Statistics.load, []

    def load_while_another_keeps(path):
        read = load(path) if late else None
        keep_counts(folder, world, other, events_of(world), of | {"events": {}})
        folders.extend(folder.iterdir())
        return read or load(path)

    monkeypatch.setattr(Statistics, "load", load_while_another_keeps)
    again, _ = counted(world, train_files(world), folder)
    assert len(passes) == 2
    same(first, again)
    assert len(folders) == 1  # nothing is left of the one before


def test_domains_in_another_order_are_counted_anew_where_rates_go_by_their_numbers(world, tmp_path, passes):
    raw = plain(world)
    raw["domains"] = dict(reversed(raw["domains"].items()))
    turned = load_experiment(raw, kinds=KINDS)
    counted(world, train_files(world), tmp_path / "kept")
    taken, _ = counted(turned, train_files(turned), tmp_path / "kept")
    assert len(passes) == 2
    anew, _ = counted(turned, train_files(turned))
    assert taken.rates is not None
    assert anew.rates is not None
    for name, table in anew.rates.tables.items():
        assert (table.values == taken.rates.tables[name].values).all(), name
