"""The tiny world with several contents of each entity: two texts, a vector of the catalog and vectors of the events."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml

from foundrank.data.catalogs.catalog import read_catalog
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.entities import Stored
from foundrank.data.contents.content_store import expected_manifest, store_folder
from foundrank.model.kinds import KINDS
from tests.content_store import write_store
from tests.tiny_world import Row, write_world

BLURB = Stored("item", "blurb")
CONTENTS = {
    "item": {"blurb": {"text": "{brand} {tags}"}, "clip": {"vector": "image", "size": 3}},
    "query": {"mood": {"vector": "query_vector", "size": 2}},
}


def write_contents(folder: Path, events: Mapping[str, list[Row]], *changes: str, seed: int = 0) -> Experiment:
    """Writes that world and loads its experiment with ``key=value`` changes; the second text has vectors of 4 numbers, as the first."""
    write_world(folder, events, seed)
    path = folder / "experiment.yaml"
    raw = yaml.safe_load(path.read_text())
    for entity, contents in CONTENTS.items():
        raw["entities"][entity]["contents"] = contents
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    experiment = load_experiment(folder, list(changes), kinds=KINDS)
    write_blurbs(experiment)
    return experiment


def write_blurbs(experiment: Experiment) -> dict[int, np.ndarray]:
    """Writes the store of the second text; item -> its vector."""
    content, item = experiment.entities.embedded()[BLURB], experiment.entities.item
    catalog = read_catalog("item", item, content.columns)
    keys = catalog["item_id"].filter(content.inputs(catalog).is_valid()).to_pylist()
    vectors = np.random.default_rng(5).integers(-8, 9, (len(keys), 4)).astype(np.float16)
    manifest = expected_manifest(experiment, BLURB)
    write_store(store_folder(experiment, BLURB), pa.array(keys, pa.int64()), np.arange(len(keys)), vectors, manifest)
    return dict(zip(keys, vectors, strict=True))
