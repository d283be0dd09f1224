"""The commands on s3:// URIs, against a server on this machine: the same numbers as on local folders."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from typer.testing import CliRunner

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.dist.cli.app import app
from foundrank.dist.fine_tuning.pretrained import pretrained
from foundrank.dist.run.kept_checkpoints import best
from foundrank.model.kinds import KINDS

from ..s3 import Bucket, s3_bucket
from .commands import COMMAND, Here, foundrank, without_temporaries
from .test_train_again import losses, wait_until

DOMAIN = "shop_feed"


@pytest.fixture(scope="module")
def bucket(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A bucket with the world's experiment, events and catalogs."""
    with s3_bucket("foundrank") as started, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOUNDRANK_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("experiment.yaml", "events", "catalogs"):
            fs.copy_files(str(world / name), f"foundrank/world/{name}", fs.LocalFileSystem(), started.files)
        yield started


def alone(command: str, *arguments: object) -> str:
    """Runs a command in this process, which has imported what it needs; what it prints."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1")):
            patch.setenv(variable, value)  # the command sets them, and they are as before afterwards
        return CliRunner().invoke(app, [command, *map(str, arguments)], catch_exceptions=False).stdout


@pytest.fixture(scope="module")
def embedded_uri(bucket: Bucket) -> str:
    alone("embed", f"{bucket.uri}/world", "-p", "1")
    return f"{bucket.uri}/world"


def test_embed_writes_the_same_text_store(bucket, embedded_uri, embedded):
    store = embedded / "text_store"
    assert bucket.keys("world/text_store") == sorted(p.relative_to(store).as_posix() for p in store.glob("*/*"))
    for path in store.glob("*/*"):
        if path.name != "manifest.json":  # it says where the catalog is
            assert bucket.get(f"world/text_store/{path.relative_to(store)}") == path.read_bytes()


def test_describe_tells_the_same(embedded_uri, embedded):
    assert alone("describe", embedded_uri) == alone("describe", embedded)


@pytest.fixture(scope="module")
def run_uri(bucket: Bucket, embedded_uri: str, train_arguments: list[str], tmp_path_factory) -> str:
    """A training that was killed, machine and all, and went on from the bucket on another one."""
    uri = f"{bucket.uri}/run"
    command = ["train", embedded_uri, "--run-dir", uri, *train_arguments]
    process = subprocess.Popen([*COMMAND, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: any(key.endswith("COMMITTED") for key in bucket.keys("run/checkpoints")), process)
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        one.kill()
    process.wait()
    begun = json.loads(bucket.get("run/run.json"))
    assert (begun["format"], "steps" in begun) == (2, False)
    bucket.put("run/checkpoints/step_00009999/__0_0.distcp", b"all that was there when it was killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOUNDRANK_CACHE", str(tmp_path_factory.mktemp("other")))
        foundrank(*command)
    return uri


def test_a_training_goes_on_from_the_bucket_on_another_machine(bucket, run_uri, run, tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(bucket.get("run/metrics.jsonl"))
    assert losses(tmp_path) == losses(run)
    assert {"best.json", "report.html", "run.json", "validation.json"} <= set(bucket.keys("run"))
    kept = {key.partition("/")[0] for key in bucket.keys("run/checkpoints") if key.endswith("COMMITTED")}
    assert kept == {path.parent.name for path in run.glob("checkpoints/*/COMMITTED")}


def test_evaluate_measures_the_same(bucket, run_uri, run):
    said = alone("evaluate", run_uri, "-p", "1")
    assert f"report: {run_uri}/report.html" in said
    given, wanted = json.loads(bucket.get("run/evaluation.json")), json.loads((run / "evaluation.json").read_text())
    for ours, theirs in zip(given["rows"], wanted["rows"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
    assert b"Not evaluated yet" not in bucket.get("run/report.html")


def test_score_writes_the_same_bytes(bucket, run_uri, run, embedded, tmp_path):
    job = ("--domain", DOMAIN, "--keep", "click", "-p", "1")
    said = alone("score", run_uri, f"{bucket.uri}/world/events/{DOMAIN}/test", f"{bucket.uri}/scores", *job)
    assert f"into {bucket.uri}/scores" in said
    alone("score", run, embedded / "events" / DOMAIN / "test", tmp_path / "scores", *job)
    names = without_temporaries(tmp_path / "scores")
    assert bucket.keys("scores") == names
    written = [one.path for one in bucket.requests if one.method == "PUT" and "/.leases/" not in one.path]
    assert written[-1].endswith("/_SUCCESS")
    parts = [name for name in names if name.startswith("part-")]
    assert parts
    for name in parts:
        assert bucket.get(f"scores/{name}") == (tmp_path / "scores" / name).read_bytes()
    bucket.files.delete_file(f"foundrank/scores/{parts[0]}")
    alone("score", run_uri, f"{bucket.uri}/world/events/{DOMAIN}/test", f"{bucket.uri}/scores", *job)
    assert bucket.keys("scores") == names
    other = (f"{bucket.uri}/world/events/{DOMAIN}/test", f"{bucket.uri}/scores", "--domain", DOMAIN, "-p", "1")
    with pytest.raises(UserError, match="keep differ"):
        alone("score", run_uri, *other)
    alone("score", run_uri, *other, "--overwrite")
    assert bucket.keys("scores") == names
    assert "click" not in pq.read_schema(pa.BufferReader(bucket.get(f"scores/{parts[0]}"))).names
    assert json.loads(bucket.get("scores/_summary.json"))["drift"]["shifts"][f"{DOMAIN}.click"] == 0


def test_a_fine_tuning_finds_its_run_in_a_bucket(run_uri, run, embedded, train_arguments):
    changes = [one for one in train_arguments if "=" in one]
    base = pretrained(load_experiment(embedded, [*changes, f"init_from={run_uri}"], kinds=KINDS))
    assert best(base.run).name == best(run).name
    local = pretrained(load_experiment(embedded, [*changes, f"init_from={run}"], kinds=KINDS))
    assert (base.layout, base.statistics.rows) == (local.layout, local.statistics.rows)


@pytest.mark.parametrize(
    ("endpoint", "where", "what"),
    [
        (None, "s3://missing", "there is no such bucket"),
        ("http://127.0.0.1:9", "s3://foundrank", "the object store cannot be reached"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_named_before_any_work(
    bucket, embedded, run, endpoint, where, what, here: Here, monkeypatch, train_arguments
):
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    events = embedded / "events" / DOMAIN / "test"
    for command in (
        ("describe", f"{where}/world"),
        ("embed", embedded, "--set", f"text.store={where}/store"),
        ("train", embedded, "--run-dir", f"{where}/run", *train_arguments),
        ("train", embedded, "--run-dir", run.parent / "new", "--set", f"init_from={where}/run", *train_arguments),
        ("evaluate", f"{where}/run"),
        ("score", run, f"{where}/input", run.parent / "out", "--domain", DOMAIN),
        ("score", run, events, f"{where}/out", "--domain", DOMAIN),
        ("report", f"{where}/run"),
        ("embed", embedded, "--set", f"text.store={where}/store", "--check"),
        ("train", f"{where}/world", "--run-dir", run.parent / "new", "--check"),
        ("train", embedded, "--run-dir", f"{where}/run", *train_arguments, "--check"),
        ("evaluate", f"{where}/run", "--check"),
        ("score", run, events, f"{where}/out", "--domain", DOMAIN, "--check"),
    ):
        status, said = here(*command)
        assert status == 2, command
        assert said.startswith(f"error: {where}\n  {what}"), (command, said)
        assert "docs/how-to/object-storage.md" in said or "create it" in said
    assert not (run.parent / "new").exists()
    assert not (run.parent / "out").exists()


def test_a_secret_in_an_experiment_is_refused_and_not_repeated(embedded, here: Here):
    status, said = here("describe", embedded, "--set", "init_from=s3://key:hidden@bucket/run")
    assert status == 2
    assert "init_from\n  is a URI that holds credentials" in said
    assert "hidden" not in said
