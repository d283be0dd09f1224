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


def write(table: pa.Table, path: Path) -> None:
    """Parquet whose size does not depend on the values."""
    pq.write_table(table, path, compression="none", use_dictionary=False)


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
        write(table.slice(start, stop - start), folder / f"data/events/{split}.parquet")
    write(pa.table({"item_id": np.arange(1, 26), "brand": np.arange(25) % 5}), folder / "data/items.parquet")
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


def rewrite(path: Path, column: str, change) -> None:
    """Changes values of a column in place, and not the file's size."""
    size, table = path.stat().st_size, pq.read_table(path)
    table = table.set_column(table.column_names.index(column), column, pa.array(change(table[column].to_numpy())))
    write(table, path)
    assert path.stat().st_size == size


def scores_of(folder: Path) -> list[float]:
    return pq.read_table(sorted(folder.glob("part-*.parquet")))["score_click"].to_pylist()


def test_a_run_that_was_made_again_in_the_same_folder_gives_its_own_scores(project, tmp_path, here: Here):
    score = ["score", project / "run", project / "data/events/test.parquet"]
    assert here(*score, tmp_path / "out", "--domain", "home")[0] == 0
    assert here("evaluate", project / "run")[0] == 0
    (evaluation := tmp_path / "evaluation.json").write_bytes((project / "run/evaluation.json").read_bytes())
    before = scores_of(tmp_path / "out")
    shutil.rmtree(project / "run")
    again = ["train", project / "data", "--run-dir", project / "run", *TRAIN, "--set", "seed=99"]
    assert here(*again)[0] == 0
    status, said = here(*score, tmp_path / "out", "--domain", "home")
    assert status == 2
    assert "holds the scores of another job (checkpoint differ)" in " ".join(said.split())
    assert scores_of(tmp_path / "out") == before
    assert here(*score, tmp_path / "new", "--domain", "home")[0] == 0
    assert scores_of(tmp_path / "new") != before
    shutil.copy(evaluation, project / "run/evaluation.json")
    assert here("report", project / "run")[0] == 0
    assert "another checkpoint than the run" in (project / "run/report.html").read_text()
    assert here("evaluate", project / "run")[0] == 0
    assert "another checkpoint than the run" not in (project / "run/report.html").read_text()


@pytest.mark.parametrize(
    ("file", "column", "change"),
    [
        ("events/train.parquet", "clicked", lambda labels: 1 - labels),
        ("items.parquet", "brand", lambda brands: brands[::-1]),
    ],
)
def test_a_training_does_not_go_on_with_rewritten_data(project, here: Here, file, column, change):
    rewrite(project / "data" / file, column, change)
    status, said = here("train", project / "data", "--run-dir", project / "run", *TRAIN)
    assert status == 2
    assert f"{file} has changed since the training" in " ".join(said.split())


def test_a_half_done_job_does_not_mix_catalogs(project, tmp_path, here: Here):
    score = ["score", project / "run", project / "data/events/test.parquet", tmp_path / "out", "--domain", "home"]
    assert here(*score)[0] == 0
    rewrite(project / "data/items.parquet", "brand", lambda brands: brands[::-1])
    status, said = here(*score)
    assert status == 2
    assert "(catalogs_and_texts differ)" in " ".join(said.split())


def test_a_fine_tuning_begins_with_the_run_it_was_made_for(project, tmp_path, here: Here):
    tune = ["train", project / "data", "--run-dir", tmp_path / "tuned", *TRAIN, "--set", f"init_from={project}/run"]
    assert here(*tune)[0] == 0
    shutil.rmtree(project / "run")
    assert here("train", project / "data", "--run-dir", project / "run", *TRAIN, "--set", "seed=99")[0] == 0
    assert here(*tune)[0] == 0  # it has all it needs
    shutil.rmtree(tmp_path / "tuned/checkpoints")
    status, said = here(*tune)
    assert status == 2
    assert "has another best checkpoint than when the training" in " ".join(said.split())
