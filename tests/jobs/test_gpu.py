"""The real commands on a GPU, and beside them on CPUs."""

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from tests.importer_sources import amazon_beauty_source
from tests.tiny_encoder import write_bert

from .commands import COMMAND, WITHOUT_DROPOUT, foundrank, settings
from .test_train_again import wait_until

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

NEXT = (
    "text.vectors=none", "model.history.heads=1", "model.history.dropout=0", "training.epochs=2", "training.precision=fp32",
    *WITHOUT_DROPOUT,
)  # fmt: skip
ONE = ("training.epochs=1", *WITHOUT_DROPOUT)


def on_cpus(*arguments: object) -> None:
    """Runs ``foundrank ARGUMENTS`` with no GPU to be seen."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def losses(run: Path) -> np.ndarray:
    """A training's loss, step by step."""
    return np.array([json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()])


def scores(folder: Path) -> np.ndarray:
    """``[rows, tasks]``."""
    table = pq.read_table(folder)
    return np.stack([table[name].to_numpy() for name in table.column_names if name.startswith("score_")], 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated world whose texts a GPU embedded, by a small encoder with random weights."""
    folder = tmp_path_factory.mktemp("gpu") / "world"
    foundrank("simulate", folder, "--rows", 20_000)
    titles = pq.read_table(next(folder.rglob("items*.parquet")))["title"].to_pylist()
    bert = write_bert(folder / "bert", {word for title in titles for word in title.lower().split()}, hidden=32)
    path = folder / "experiment.yaml"
    experiment = yaml.safe_load(path.read_text())
    experiment["text"] = experiment.get("text", {}) | {"encoder": str(bert)}
    path.write_text(yaml.safe_dump(experiment, sort_keys=False))
    foundrank("embed", folder)
    return folder


@pytest.fixture(scope="module")
def run(world: Path) -> Path:
    """A run on one GPU."""
    folder = world.parent / "gpu_run"
    foundrank("train", world, "--run-dir", folder, "--profile", *settings(*ONE))
    return folder


@pytest.fixture(scope="module")
def cpu_run(world: Path) -> Path:
    """The same training without a GPU."""
    folder = world.parent / "cpu_run"
    on_cpus("train", world, "--run-dir", folder, *settings(*ONE))
    return folder


def test_a_gpu_learns_what_a_cpu_learns(run, cpu_run):
    assert json.loads((run / "run.json").read_text())["device"] == "cuda:0"
    assert json.loads((cpu_run / "run.json").read_text())["device"] == "cpu"
    np.testing.assert_allclose(losses(run), losses(cpu_run), rtol=2e-3)


def test_bfloat16_learns_the_same(world, run, tmp_path):
    foundrank("train", world, "--run-dir", tmp_path / "run", *settings(*ONE, "training.precision=auto"))
    np.testing.assert_allclose(losses(tmp_path / "run")[-20:].mean(), losses(run)[-20:].mean(), rtol=0.01)


def test_the_same_seed_gives_the_same_training(world, run, tmp_path):
    foundrank("train", world, "--run-dir", tmp_path / "run", *settings(*ONE))
    assert losses(tmp_path / "run").tolist() == losses(run).tolist()


def test_what_a_gpu_trained_is_evaluated_and_scored_the_same_on_cpus(world, run, tmp_path):
    source = world / "events" / "shop_feed" / "test"
    foundrank("evaluate", run)
    evaluated = json.loads((run / "evaluation.json").read_text())["rows"]
    foundrank("score", run, source, tmp_path / "gpu", "--domain", "shop_feed")
    on_cpus("score", run, source, tmp_path / "cpu", "--domain", "shop_feed")
    np.testing.assert_allclose(scores(tmp_path / "gpu"), scores(tmp_path / "cpu"), atol=1e-3)
    on_cpus("evaluate", run)
    for one, other in zip(evaluated, json.loads((run / "evaluation.json").read_text())["rows"], strict=True):
        assert one["auc"] == pytest.approx(other["auc"], abs=1e-3), (one, other)


def test_the_log_says_where_the_time_of_a_gpu_goes(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(line["step_ms"]["forward"] > 0 and line["step_ms"]["backward"] > 0 for line in lines[1:])
    assert lines[-1]["memory_mb"] > 1
    [trace] = run.glob("trace*")
    assert "cudaLaunchKernel" in trace.read_text()


def test_a_stopped_training_goes_on_where_it_was(world, run, tmp_path):
    command = ["train", world, "--run-dir", tmp_path / "run", *settings(*ONE)]
    process = subprocess.Popen(
        [*COMMAND, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: (tmp_path / "run" / "metrics.jsonl").is_file() and len(losses(tmp_path / "run")) > 2, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert len(losses(tmp_path / "run")) < len(losses(run))
    foundrank(*command)
    assert losses(tmp_path / "run").tolist() == losses(run).tolist()


def test_the_next_item_is_learned_on_a_gpu_as_on_a_cpu(tmp_path):
    source = amazon_beauty_source(tmp_path / "source", users=300)
    foundrank("import", "amazon-beauty", source, tmp_path / "data")
    command = ["train", tmp_path / "data", *settings(*NEXT)]
    foundrank(*command, "--run-dir", tmp_path / "gpu")
    on_cpus(*command, "--run-dir", tmp_path / "cpu")
    np.testing.assert_allclose(losses(tmp_path / "gpu"), losses(tmp_path / "cpu"), rtol=5e-3)
    foundrank(
        "recommend", tmp_path / "gpu", tmp_path / "data" / "events" / "beauty" / "test", tmp_path / "found", "-k", 5
    )
    assert list((tmp_path / "found").glob("part-*.parquet"))


def test_more_processes_than_gpus_are_refused(world, tmp_path):
    gpus = torch.cuda.device_count()
    done = foundrank("train", world, "--run-dir", tmp_path / "run", "-p", gpus + 1, *settings(*ONE), status=2)
    assert f"is {gpus + 1} on a machine with {gpus} GPU(s)" in done.stderr
    assert not (tmp_path / "run").exists()
