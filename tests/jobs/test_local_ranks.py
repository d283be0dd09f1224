"""Ranks on this machine end together: after Ctrl-C, and when one of them fails."""

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from .commands import COMMAND, ENVIRONMENT, settings
from .test_train_again import wait_until

FAULT = """
import os
if os.environ.get("RANK") == "1":
    import torch
    def backward(*_, **__):
        raise ZeroDivisionError("of this rank")
    torch.Tensor.backward = backward
"""


def training(world: Path, run: Path, processes: int, **environment: str) -> subprocess.Popen[str]:
    """A long training in a process group of its own, as a terminal starts it."""
    changes = settings("model.aspects=[id, sparse]", "training.epochs=1000", "training.checkpoint_every=100000")
    command = [*COMMAND, "train", str(world), "--run-dir", str(run), *changes, "-p", str(processes)]
    return subprocess.Popen(
        command, env=ENVIRONMENT | environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_ends_every_process(world: Path, tmp_path: Path, processes: int):
    launcher = training(world, tmp_path / "run", processes)
    log = tmp_path / "run" / "metrics.jsonl"
    wait_until(lambda: log.is_file() and log.read_text().count("\n") > 1, launcher)
    all_of_it = psutil.Process(launcher.pid).children(recursive=True)
    assert len([one for one in all_of_it if "train" in one.cmdline()]) == (0 if processes == 1 else processes)
    os.killpg(launcher.pid, signal.SIGINT)
    _, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    assert errors.endswith("interrupted: run the same command again, it goes on\n")
    assert "Traceback" not in errors, errors
    assert "signal" not in errors
    assert not [one for one in all_of_it if one.is_running()]


def test_the_rank_that_failed_is_told_alone(world: Path, tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(FAULT)
    launcher = training(world, tmp_path / "run", 2, PYTHONPATH=str(tmp_path))
    _, errors = launcher.communicate(timeout=120)
    assert launcher.returncode == 1
    assert errors.count("Traceback") == 1
    assert "rank 1 failed:\nTraceback" in errors
    assert errors.endswith("ZeroDivisionError: of this rank\n")
