"""What is counted once for trainings of the same data."""

from pathlib import Path

import pytest

from foundrank.data.config.load import load_experiment, plain
from foundrank.data.errors import UserError
from foundrank.data.events.event_files import _open_local
from foundrank.dist.train import prepare as module
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

    noted("count", made)
    noted("count_rates", rates)
    yield made
    assert len(rates) == len(made)


def changed(experiment, *overrides):
    return load_experiment(plain(experiment), overrides, kinds=KINDS)


def same(one, other):
    assert {name: list(table.counts) for name, table in one.tables.items()} == {
        name: list(table.counts) for name, table in other.tables.items()
    }
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


def test_damaged_counts_are_told(world, tmp_path):
    counted(world, train_files(world), tmp_path / "counts")
    [file] = Path(tmp_path / "counts").rglob("id_item.parquet")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match="is damaged"):
        counted(world, train_files(world), tmp_path / "counts")
