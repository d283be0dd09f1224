"""Events and catalogs that are Delta tables."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from foundrank.data.config.load import load_experiment, plain
from foundrank.data.counting.counting_pass import count
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from foundrank.model.kinds import KINDS
from tests.tiny_world import random_events, train_files, write_world


@pytest.fixture
def world(tmp_path):
    """An experiment whose domain `home` and items are in Delta tables, with rows that were removed; and the plain one."""
    experiment = write_world(tmp_path, random_events(1, {"find": 20, "home": 30, "new": 20}))
    events, items = pq.read_table(tmp_path / "home"), pq.read_table(tmp_path / "items.parquet")
    events = events.set_column(
        events.column_names.index("picture"), "picture", events["picture"].cast(pa.list_(pa.float32()))
    )
    for name, table in (("events", events), ("items", items)):
        write_deltalake(tmp_path / "delta" / name, table)
        write_deltalake(tmp_path / "delta" / name, table, mode="overwrite")
    raw = plain(experiment)
    raw["domains"]["home"]["events"] = {"train": f"delta:{tmp_path}/delta/events"}
    raw["entities"]["item"]["catalog"]["path"] = f"delta:{tmp_path}/delta/items@1"
    return load_experiment(raw, kinds=KINDS), experiment


def test_rows_of_the_current_version_are_counted_once(world):
    in_delta, in_files = world
    one, other = (count(experiment, train_files(experiment)) for experiment in world)
    assert train_files(in_delta)["home"].rows == 30
    assert (one.rows, one.labels, one.dense) == (other.rows, other.labels, other.dense)
    for name, table in other.tables.items():
        assert (
            one.tables[name].counts[np.arange(table.rows)].tolist() == table.counts[np.arange(table.rows)].tolist()
        ), name
    assert in_files.domains["home"].events.train != in_delta.domains["home"].events.train


def test_a_column_that_files_lack_is_refused(world, tmp_path):
    """Delta reads it as null in files from before it was added, and a partition's from the log."""
    raw, events = plain(world[0]), pq.read_table(tmp_path / "home").drop_columns(["picture"])
    later = events.append_column("picture", pa.array([[1.0, 2.0]] * events.num_rows, pa.list_(pa.float32())))
    write_deltalake(tmp_path / "delta" / "grown", events)
    write_deltalake(tmp_path / "delta" / "grown", later, mode="append", schema_mode="merge")
    raw["domains"]["home"]["events"]["train"] = f"delta:{tmp_path}/delta/grown"
    missing = r"part-.*parquet: column 'picture': is missing, and domains.home.features.picture"
    with pytest.raises(UserError, match=missing):
        check_events(load_experiment(raw, kinds=KINDS))
    del raw["domains"]["home"]["features"]["picture"]
    assert check_events(load_experiment(raw, kinds=KINDS))["home"]["train"].rows == 60
    write_deltalake(tmp_path / "delta" / "parts", events, partition_by=["slot"])
    raw["domains"]["home"]["events"]["train"] = f"delta:{tmp_path}/delta/parts"
    with pytest.raises(UserError, match="column 'slot': is missing"):
        check_events(load_experiment(raw, kinds=KINDS))
