"""Checkpoints in a bucket, from machines that share nothing else: whole or not there, and the same as on a local disk."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from foundrank.data.config.experiment import Experiment
from foundrank.data.errors import UserError
from foundrank.data.storage.mirror import mirrored, stamp_of
from foundrank.dist.increments import delta
from foundrank.dist.increments.learn import update
from foundrank.dist.increments.request import Request, next_increment
from foundrank.dist.predictor.predictor import checked_members
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.run import checkpoint_writer as checkpoint
from foundrank.dist.run.kept_checkpoints import checked_best
from foundrank.dist.run.run_folder import fetch_run
from foundrank.dist.sharding.shard import shard
from foundrank.dist.train.optimizer import Optimizer
from foundrank.model.kinds import KINDS
from tests.s3 import Bucket, s3_bucket

from .harness import run_ranks
from .rank_work import make_encoder, train_run
from .test_checkpoint import steps_loaded


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_bucket("checkpoints") as started:
        yield started


def on_machines(function: Callable[..., Any], ranks: int, bucket: Bucket, caches: Path, *arguments: Any) -> list[Any]:
    """Runs a function on ranks each of which is a machine of its own, with a cache folder of its own."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return run_ranks(as_machine, ranks, function, environment, caches, *arguments)


def as_machine(
    runtime: Runtime, function: Callable[..., Any], environment: dict[str, str], caches: Path, *arguments: Any
) -> Any:
    cache = str(caches / f"machine{runtime.rank}")
    os.environ.update(environment | {"FOUNDRANK_CACHE": cache, "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"})
    return function(runtime, *arguments)


def train_uri(runtime: Runtime, experiment: Experiment, uri: str) -> None:
    train_run(runtime, experiment, uri)


def committed(bucket: Bucket, run: str) -> list[int]:
    return [int(key[5:13]) for key in bucket.keys(f"{run}/checkpoints") if key.endswith("/COMMITTED")]


def test_a_training_goes_on_from_the_bucket_on_other_machines(small, bucket, tmp_path):
    experiment = small("training.max_steps=7", "training.checkpoint_every=2", "training.keep_best=false")
    uri = f"{bucket.uri}/run"
    on_machines(train_uri, 2, bucket, tmp_path / "first", experiment, uri)
    wanted, steps = losses(bucket), committed(bucket, "run")
    bucket.files.delete_file(f"checkpoints/run/checkpoints/step_{steps[-1]:08d}/COMMITTED")
    bucket.files.delete_file("checkpoints/run/run.json")
    on_machines(train_uri, 2, bucket, tmp_path / "second", experiment, uri)
    assert len(wanted) == steps[-1]
    assert losses(bucket) == wanted
    assert committed(bucket, "run") == steps
    assert json.loads(bucket.get("run/run.json"))["steps"] == steps[-1]


def test_so_does_a_run_of_several_models(small, bucket, tmp_path):
    changes = ("training.max_steps=4", "training.checkpoint_every=2", "training.log_every=1")
    experiment, uri = small(*changes, "seeds=2"), f"{bucket.uri}/several"
    second = "several/members/1"
    on_machines(train_uri, 2, bucket, tmp_path / "first", experiment, uri)
    wanted = {of: (losses(bucket, of), committed(bucket, of)) for of in ("several", second)}
    assert wanted["several"] != wanted[second]
    bucket.files.delete_file(f"checkpoints/{second}/checkpoints/step_{wanted[second][1][-1]:08d}/COMMITTED")
    bucket.files.delete_file(f"checkpoints/{second}/run.json")
    on_machines(train_uri, 2, bucket, tmp_path / "second", experiment, uri)
    assert {of: (losses(bucket, of), committed(bucket, of)) for of in wanted} == wanted
    found = on_machines(members_of_uri, 2, bucket, tmp_path / "third", experiment, uri)
    assert [[path.parents[1].name for path in of_rank] for of_rank in found] == [["several", "1"]] * 2


def members_of_uri(runtime: Runtime, experiment: Experiment, uri: str) -> list[Path]:
    fetch_run(mirrored(uri, "read"))
    return checked_members(mirrored(uri, "read"), experiment, runtime)


def update_run(runtime: Runtime, run: str, events: str) -> None:
    delta._BLOCK = 64  # both ranks have rows of small tables to compare
    request = Request(run, (events,), "/", (), KINDS, keep=2)
    update(request, runtime.on_main(lambda: next_increment(request)), runtime)


def test_so_does_an_update(small, world, bucket, tmp_path):
    changes = ("text.vectors=none", "training.max_steps=4", "training.keep_best=false")
    experiment, uri = small(*changes), f"{bucket.uri}/fresh"
    on_machines(train_uri, 2, bucket, tmp_path / "first", experiment, uri)
    run, events = tmp_path / "run", f"{world.parent}/events/{{domain}}/test/*.parquet"
    fs.copy_files("checkpoints/fresh", str(run), bucket.files, fs.LocalFileSystem())
    run_ranks(update_run, 2, str(run), events)
    on_machines(update_run, 2, bucket, tmp_path / "second", uri, events)
    (wanted,) = (run / "deltas").iterdir()
    rows = {f"rows-{rank}.safetensors" for rank in (0, 1)}
    assert rows <= {path.name for path in wanted.iterdir()}
    for path in wanted.glob("*.*"):
        assert bucket.get(f"fresh/deltas/00001/{path.name}") == path.read_bytes(), path.name
    sums = json.loads(bucket.get("fresh/deltas/00001/COMMITTED"))["sha256"]
    assert sums == json.loads((wanted / "COMMITTED").read_text())["sha256"]


def losses(bucket: Bucket, run: str = "run") -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in bucket.get(f"{run}/metrics.jsonl").splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


def save_some(runtime: Runtime, experiment: Experiment, uri: str, steps: int) -> list[str]:
    """Saves steps 1, 2, ...; what was said of each that failed."""
    run, told = mirrored(uri, "work"), []
    sharded = shard(make_encoder(experiment).layout, experiment, runtime)
    checkpoints = checkpoint.Checkpoints(run, 9, runtime)
    for step in range(1, steps + 1):
        checkpoints.save(sharded, Optimizer(sharded, experiment.training), {"step": step})
        try:
            checkpoints.wait()
        except UserError as error:
            told.append(str(error))
        runtime.barrier()
    return told


REFUSED = ("step_00000003/__1_0.distcp", "step_00000004/dense_optimizer.pt", "step_00000005/COMMITTED")


@pytest.fixture(scope="module")
def told(small, bucket, tmp_path_factory) -> list[list[str]]:
    """What each rank said when the bucket took checkpoints 1 and 2, and not all of 3, 4 and 5."""
    bucket.fails = lambda request: request.method in ("PUT", "POST") and request.path.endswith(REFUSED)
    try:
        return on_machines(save_some, 2, bucket, tmp_path_factory.mktemp("caches"), small(), f"{bucket.uri}/saved", 5)
    finally:
        bucket.fails = lambda request: False
        bucket.put("saved/experiment.yaml", b"")


def test_a_checkpoint_that_is_not_all_in_the_bucket_does_not_count(bucket, told):
    assert committed(bucket, "saved") == [1, 2]
    for of_rank in told:
        for name, said in zip(REFUSED, of_rank, strict=True):
            assert f"{name}: access is denied" in said
            assert "resume from the newest checkpoint" in said


def steps_loaded_uri(runtime: Runtime, experiment: Experiment, uri: str, damaged: str = "") -> int:
    """The step of the checkpoint that a training goes on from, with a file of its copy damaged before."""
    run = mirrored(uri, "work")
    fetch_run(run)
    if damaged:
        checked_best(run, runtime)  # fetches it
        path = run / "checkpoints" / damaged
        _, written = stamp_of(path)
        path.write_bytes(bytes(path.stat().st_size))
        os.utime(path, ns=(written, written))
    return steps_loaded(runtime, experiment, run)


def test_what_is_damaged_here_is_fetched_again_and_what_is_damaged_there_is_set_aside(small, bucket, told, tmp_path):
    uri, damaged = f"{bucket.uri}/saved", "step_00000002/__1_0.distcp"
    assert on_machines(steps_loaded_uri, 2, bucket, tmp_path, small(), uri, damaged) == [2, 2]
    bucket.put(f"saved/checkpoints/{damaged}", bytes(len(bucket.get(f"saved/checkpoints/{damaged}"))))
    assert on_machines(steps_loaded_uri, 2, bucket, tmp_path, small(), uri) == [1, 1]
    assert committed(bucket, "saved") == [1]
    assert "step_00000002/DAMAGED" in bucket.keys("saved/checkpoints")
