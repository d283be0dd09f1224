"""What a job began with is what it goes on with, wherever it is by then."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from .commands import Here, settings

TRAIN = settings("text.vectors=none", "training.epochs=1")


def write_project(folder: Path) -> None:
    """Events of one domain and a catalog below ``folder/data``."""
    rng, rows = np.random.default_rng(0), 300
    items = rng.integers(1, 21, rows)
    table = pa.table(
        {
            "user_id": rng.integers(1, 31, rows),
            "item_id": items,
            "clicked": (rng.random(rows) < 0.2 + 0.6 * (items % 2)).astype(np.int8),
        }
    )
    (folder / "data/events").mkdir(parents=True)
    for split, start, stop in (("train", 0, 200), ("validation", 200, 250), ("test", 250, 300)):
        pq.write_table(table.slice(start, stop - start), folder / f"data/events/{split}.parquet")
    pq.write_table(pa.table({"item_id": np.arange(1, 26), "brand": np.arange(25) % 5}), folder / "data/items.parquet")
    experiment = {
        "name": "tiny",
        "entities": {
            "user": {"id": "user_id"},
            "item": {
                "id": "item_id",
                "catalog": {"path": "items.parquet", "key": "item_id"},
                "features": {"brand": {"kind": "categorical"}},
            },
        },
        "domains": {
            "home": {
                "kind": "recommendation",
                "tasks": {"click": {"label": "clicked"}},
                "events": {split: f"events/{split}.parquet" for split in ("train", "validation", "test")},
            }
        },
    }
    (folder / "data/experiment.yaml").write_text(yaml.safe_dump(experiment))


@pytest.fixture
def project(tmp_path: Path, here: Here) -> Path:
    """A folder with data and a run."""
    write_project(tmp_path / "project")
    status, said = here("train", tmp_path / "project/data", "--run-dir", tmp_path / "project/run", *TRAIN)
    assert status == 0, said
    return tmp_path / "project"


def test_data_and_run_are_moved_together(project, tmp_path, here: Here):
    moved = Path(shutil.move(project, tmp_path / "moved"))
    run = moved / "run"
    for command in (
        ["score", run, moved / "data/events/test.parquet", tmp_path / "scores", "--domain", "home"],
        ["evaluate", run],
        ["report", run],
        ["train", moved / "data", "--run-dir", run, *TRAIN],
    ):
        status, said = here(*command)
        assert status == 0, said
