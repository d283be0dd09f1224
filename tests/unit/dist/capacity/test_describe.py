"""What `describe` tells of the times of events and of contents."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.entities import Stored
from foundrank.data.contents.content_store import expected_manifest, store_folder
from foundrank.dist.capacity.describe import describe
from foundrank.model.kinds import KINDS
from tests.content_store import write_store
from tests.tiny_world import random_events, write_world


def test_splits_that_overlap_in_time_are_told(tmp_path, capsys):
    write_world(tmp_path, random_events(3, {"find": 30, "home": 30, "new": 20}), seed=3, group=50)
    table = pq.read_table(tmp_path / "home/part-000.parquet")
    for start, path in ((1_700_000_000, "first.parquet"), (1_700_000_010, "later.parquet")):
        at = pa.array([None, *range(start, start + table.num_rows - 1)], pa.timestamp("s"))
        pq.write_table(table.append_column("at", at), tmp_path / path, row_group_size=10)
    events = f"domains.home.events={{train: {tmp_path}/first.parquet, test: {tmp_path}/later.parquet}}"
    changes = [
        "only=[home]",
        "domains.home.features.picture.bias=true",
        "domains.home.time=at",
        "domains.home.users=false",
        "text.vectors=none",
        events,
    ]
    describe(load_experiment(tmp_path, changes, kinds=KINDS), Console(width=200))
    told = capsys.readouterr().out
    assert (
        "features of context: hour (categorical)\nfeatures of home: slot (categorical), picture (vector, bias)" in told
    )
    assert "home: train 2023-11-14 22:13:20 to " in told
    assert "domains.home.events.test begins at 2023-11-14 22:13:30, before training ends" in told


def test_the_batch_size_is_told_with_where_it_comes_from(tmp_path, capsys):
    write_world(tmp_path, random_events(3, {"find": 30, "home": 30, "new": 20}), seed=3, group=50)
    describe(load_experiment(tmp_path, ["text.vectors=none"], kinds=KINDS), Console(width=200))
    assert "training.batch_size: 8 (written)" in capsys.readouterr().out
    path = tmp_path / "experiment.yaml"
    path.write_text(path.read_text().replace("batch_size: 8", "epochs: 2"))
    describe(load_experiment(tmp_path, ["text.vectors=none"], kinds=KINDS), Console(width=200))
    assert "training.batch_size: 128 (by data size: 80 rows)" in capsys.readouterr().out


def test_the_mean_cosine_of_a_store_is_told_before_and_after_conditioning(tmp_path, capsys):
    write_world(tmp_path, random_events(3, {"find": 30, "home": 30, "new": 20}), seed=3, group=50)
    experiment = load_experiment(tmp_path, [], kinds=KINDS)
    of = Stored("item", "text")
    vectors = np.random.default_rng(0).normal(size=(300, 16)) + 1.5
    write_store(
        store_folder(experiment, of), pa.array(range(300)), np.arange(300), vectors, expected_manifest(experiment, of)
    )
    for conditioning, wanted in (("whiten", "0.70, then 0.00"), ("none", "0.70")):
        describe(
            load_experiment(tmp_path, [f"model.content_conditioning={conditioning}"], kinds=KINDS), Console(width=200)
        )
        row = next(line for line in capsys.readouterr().out.splitlines() if "{title}" in line)
        assert row.rstrip().endswith(f" {wanted}"), row
