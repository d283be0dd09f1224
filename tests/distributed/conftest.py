"""A small simulated world with made-up text vectors, and experiments over it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.catalogs.catalog import read_catalog
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.entities import Stored
from foundrank.data.contents.content_store import expected_manifest, store_folder
from foundrank.data.simulation.worlds import simulate
from foundrank.model.kinds import KINDS
from tests.content_store import write_store

SMALL = (
    "model.embedding_dim=8", "model.width=8", "model.domain_width=16", "model.experts=2", "model.expert_widths=[16, 8]",
    "model.tower_widths=[4]", "model.dropout=0", "model.id_dropout=0", "model.hide_rare_items=0", "training.batch_size=96", "training.log_every=1",
    "training.shuffle_rows=512", "training.epochs=1",
)  # fmt: skip


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment file of 10,000 simulated events; each text has a random vector."""
    path = simulate(tmp_path_factory.mktemp("world") / "data", rows=10_000)
    items = path.parent / "catalogs/items.parquet"
    table = pq.read_table(items)
    weights = [[float(at + row % 3) for at in range(len(tags))] for row, tags in enumerate(table["tags"].to_pylist())]
    pq.write_table(table.append_column("tag_weights", pa.array(weights)), items)
    experiment, rng = load_experiment(path, kinds=KINDS), np.random.default_rng(0)
    for name, entity in experiment.entities.present().items():
        assert entity.catalog is not None
        keys = pa.concat_arrays(read_catalog(name, entity, [])[entity.catalog.key].chunks)
        vectors = rng.normal(size=(len(keys), 12)) / 12**0.5
        folder = store_folder(experiment, Stored(name, "text"))
        write_store(folder, keys, np.arange(len(keys)), vectors, expected_manifest(experiment, Stored(name, "text")))
    return path


@pytest.fixture(scope="session")
def small(world: Path) -> Callable[..., Experiment]:
    """The world's experiment with a tiny model without dropout, and ``key=value`` changes."""
    return lambda *changes: load_experiment(world, [*SMALL, *changes], kinds=KINDS)
