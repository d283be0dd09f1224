"""Events in Delta tables: a training notes the versions that it reads, and reads these until its end."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import write_deltalake

from .commands import foundrank, settings

DOMAIN = "shop_feed"
TRAIN = settings("text.vectors=none", "training.max_steps=6", f"only=[{DOMAIN}]")


def rows_of(world: Path, split: str) -> pa.Table:
    return pq.read_table(world / "events" / DOMAIN / split)


def read_by(run: Path) -> dict[str, str]:
    return yaml.safe_load((run / "experiment.yaml").read_text())["domains"][DOMAIN]["events"]


def rows_in(run: Path) -> int:
    return json.loads((run / "vocabulary" / "statistics.json").read_text())["rows"][DOMAIN]


@pytest.fixture
def platform(world, tmp_path):
    """The world with one domain in Delta tables, beside its experiment. Training rows were written over once, and appended to."""
    folder = tmp_path / "platform"
    shutil.copytree(world / "catalogs", folder / "catalogs")
    raw = yaml.safe_load((world / "experiment.yaml").read_text())
    del raw["domains"][DOMAIN]["events"]
    raw["events"] = "delta:tables/{domain}/{split}"
    (folder / "experiment.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    train = rows_of(world, "train")
    tables = folder / "tables" / DOMAIN
    write_deltalake(tables / "train", train.slice(0, 100))
    write_deltalake(tables / "train", train.slice(0, 700), mode="overwrite")
    write_deltalake(tables / "train", train.slice(700, 300), mode="append")
    write_deltalake(tables / "test", rows_of(world, "test"))
    return folder


def test_a_training_reads_the_versions_that_were_there_when_it_began(platform, world, tmp_path):
    tables, run = platform / "tables" / DOMAIN, tmp_path / "run"
    done = foundrank("train", platform, "--run-dir", run, *TRAIN)
    assert f"domains.{DOMAIN}.events.train: version 2 of {tables / 'train'}" in done.stdout + done.stderr
    assert read_by(run) == {"train": f"delta:{tables}/train@2", "test": f"delta:{tables}/test@0"}
    assert rows_in(run) == 1000

    write_deltalake(tables / "train", rows_of(world, "train").slice(0, 50), mode="overwrite")
    write_deltalake(tables / "test", rows_of(world, "test").slice(0, 50), mode="overwrite")
    assert "checks passed" in foundrank("train", platform, "--run-dir", run, "--check", *TRAIN).stdout
    shutil.rmtree(run / "checkpoints")  # so that there is something left to do
    foundrank("train", platform, "--run-dir", run, *TRAIN)
    assert list((run / "checkpoints").glob("step_*"))
    foundrank("evaluate", run)
    measured = json.loads((run / "evaluation.json").read_text())["rows"]
    (clicks,) = [row["rows"] for row in measured if (row["task"], row["slice"]) == ("click", "all")]
    assert clicks == rows_of(world, "test").num_rows
    foundrank("score", run, f"delta:{tables}/test", tmp_path / "scores", "--domain", DOMAIN)
    assert pq.read_table(tmp_path / "scores").num_rows == 50  # of today

    other = tmp_path / "other"
    foundrank("train", platform, "--run-dir", other, *TRAIN)
    assert read_by(other) == {"train": f"delta:{tables}/train@3", "test": f"delta:{tables}/test@1"}
    assert rows_in(other) == 50
    told = foundrank(
        *(
            "train",
            platform,
            "--run-dir",
            run,
            *TRAIN,
            "--set",
            f"domains.{DOMAIN}.events.train=delta:tables/{DOMAIN}/train@3",
        ),
        status=2,
    ).stderr
    assert f"train@2' there, 'delta:{tables}/train@3' here" in " ".join(told.split())


def test_a_run_that_was_moved_with_its_tables_goes_on_with_their_versions(platform, tmp_path):
    run = platform / "run"
    foundrank("train", platform, "--run-dir", run, *TRAIN)
    moved = tmp_path / "moved"
    platform.rename(moved)
    write_deltalake(
        moved / "tables" / DOMAIN / "train", pa.table({"other": [1]}), mode="overwrite", schema_mode="overwrite"
    )
    foundrank("evaluate", moved / "run")
    foundrank("train", moved, "--run-dir", moved / "run", *TRAIN)
    assert json.loads((moved / "run" / "run.json").read_text())["folder"] == str(run)


def test_what_cannot_be_read_is_told_before_there_is_a_run(platform, tmp_path):
    def refused(*more: str) -> str:
        told = foundrank("train", platform, "--run-dir", tmp_path / "run", *TRAIN, *more, status=2).stderr
        assert not (tmp_path / "run").exists()
        return " ".join(told.split())

    event = f"domains.{DOMAIN}.events.train=delta:"
    assert "is no Delta table" in refused("--set", f"{event}tables/none")
    assert "is no Delta table, or holds no rows" in refused("--set", f"{event}tables/none@3")
    assert "has no version 9. The current one is 2" in refused("--set", f"{event}tables/{DOMAIN}/train@9").replace(
        " .", "."
    )
    assert "read on local paths only" in refused("--set", f"{event}s3://bucket/table")
    inside = platform / "tables" / DOMAIN / "train" / "run"
    told = foundrank("train", platform, "--run-dir", inside, *TRAIN, status=2).stderr
    assert "is in a folder that is read as data" in told
    told = foundrank("tune", platform, tmp_path / "tuned", "--trials", "1", *TRAIN, status=2).stderr
    assert "events.validation" in told
    shutil.copytree(platform / "tables" / DOMAIN / "test", platform / "tables" / DOMAIN / "validation")
    told = foundrank("tune", platform, tmp_path / "tuned", "--trials", "1", *TRAIN, status=2).stderr
    assert f"Write delta:{platform}/tables/{DOMAIN}/train@2" in told
