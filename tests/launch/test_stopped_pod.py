"""What a rendered pod runs, run here as the first process of a namespace, as a container's is."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..jobs.commands import ENVIRONMENT, foundrank, settings
from .rendered import container, environment, rendered, templates

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def wait_for(happened, seconds=90):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_pod_that_is_deleted_saves_a_checkpoint_first(tmp_path):
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        pytest.skip(
            "needs root and util-linux's unshare: a container's first process gets no signal it has no handler for"
        )
    run, log = tmp_path / "run", tmp_path / "log"
    foundrank("simulate", tmp_path / "world", "--rows", 20_000)
    changes = settings("training.epochs=1000", "model.aspects=[id, sparse]")[1::2]  # TorchX takes --set once
    where = ["--check", "False", "--experiment", str(tmp_path / "world"), "--run", str(run), "--nproc", "1"]
    [template] = templates(rendered("train", *where, "--", "--set", "; ".join(changes)))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where foundrank is
    with log.open("w") as said:
        pod = subprocess.Popen(
            [*NAMESPACE, *container(template)["command"]],
            env=ENVIRONMENT | environment(template) | {"PATH": path},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    try:
        metrics = run / "metrics.jsonl"
        wait_for(lambda: pod.poll() is not None or (metrics.exists() and metrics.read_text().count("\n") > 2))
        assert pod.poll() is None, log.read_text()
        [first] = Path(f"/proc/{pod.pid}/task/{pod.pid}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)
        assert pod.wait(60) == 75, log.read_text()
    finally:
        pod.kill()
    assert [*run.glob("checkpoints/*/COMMITTED")]
