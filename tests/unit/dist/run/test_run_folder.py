"""A run in a bucket: begun anew or gone on with, whatever an interrupted job left there."""

from pathlib import Path

import pytest

from foundrank.data.errors import UserError
from foundrank.data.storage.mirror import mirrored
from foundrank.dist.run.run_folder import fetch_run, open_experiment, publish_run

pytestmark = pytest.mark.usefixtures("cache")

INCREMENT = "increments/00001-01234567"


def write(run: Path, *names: str) -> None:
    for name in names:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)


def test_what_a_job_left_while_it_made_the_run_is_no_run(bucket):
    bucket.put("begun/vocabulary/id_item.parquet", b"")
    run = mirrored(f"{bucket.uri}/begun", "work")
    write(run, "experiment.yaml", "metrics.jsonl")  # of a run that is no longer in the bucket
    fetch_run(run)
    assert not run.exists()
    with pytest.raises(UserError, match=r"has no experiment\.yaml, so it is not a run"):
        open_experiment(mirrored(f"{bucket.uri}/begun", "read"))


def test_what_has_been_counted_of_a_run_that_is_not_made_yet_stays_here_and_is_not_published(bucket):
    run = mirrored(f"{bucket.uri}/counting", "work")
    write(run, "experiment.yaml", "vocabulary/a", "counting/key/piece-000000000-0.npz")
    fetch_run(run)
    assert [path for path in run.rglob("*") if path.is_file()] == [run / "counting/key/piece-000000000-0.npz"]
    write(run, "experiment.yaml")
    bucket.requests.clear()
    publish_run(run)
    assert [request.path for request in bucket.requests if request.method == "PUT"] == [
        "/test-run-folder/counting/experiment.yaml"
    ]


def test_a_folder_of_something_else_is_not_fetched(bucket):
    bucket.put("data/events/part.parquet", b"")
    with pytest.raises(UserError, match="s3://test-run-folder/data: is not empty and holds no run"):
        fetch_run(mirrored(f"{bucket.uri}/data", "work"))


def test_a_run_is_fetched_without_its_checkpoints_own_files(bucket):
    names = ("experiment.yaml", "best.json", "vocabulary/statistics.json", "checkpoints/step_00000001/COMMITTED")
    others = ("checkpoints/step_00000001/__0_0.distcp", "checkpoints/step_00000002/state.json", "events/part.parquet")
    others += (
        "vocabulary/id_item.parquet",
        "deltas/00001/COMMITTED",
        f"{INCREMENT}/checkpoints/step_00000001/COMMITTED",
    )
    for name in (*names, *others):
        bucket.put(f"fetched/{name}", name.encode())
    run = mirrored(f"{bucket.uri}/fetched", "work")
    write(run, "validation.json", "checkpoints/step_00000002/COMMITTED", "checkpoints/step_00000002/__0_0.distcp")
    fetch_run(run)
    assert {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()} == set(names)


def test_what_tells_of_a_run_or_a_checkpoint_is_published_last(bucket):
    run = mirrored(f"{bucket.uri}/published", "work")
    checkpoint = "checkpoints/step_00000001"
    write(
        run, "experiment.yaml", "best.json", "events.json", "vocabulary/a", f"{checkpoint}/COMMITTED", "metrics.jsonl"
    )
    write(run, f"{INCREMENT}/experiment.yaml", "deltas/00001/COMMITTED")  # which updates write, and remove
    write(run, f"{checkpoint}/__0_0.distcp", ".alive.rank0.json", "checkpoints/.step_00000002.tmp/a", "evaluation.json")
    bucket.requests.clear()
    publish_run(run)
    puts = [
        request.path.removeprefix("/test-run-folder/published/")
        for request in bucket.requests
        if request.method == "PUT"
    ]
    assert sorted(puts[:3]) == ["events.json", "metrics.jsonl", "vocabulary/a"]
    assert puts[3] == f"{checkpoint}/COMMITTED"
    assert sorted(puts[4:]) == ["best.json", "experiment.yaml"]
