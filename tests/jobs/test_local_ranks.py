"""Ranks on this machine end together: after Ctrl-C, and when one of them fails."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from .commands import COMMAND, ENVIRONMENT, ranks_of, settings
from .test_train_again import losses, wait_until

FAULT = """
import os
import torch
usual = torch.Tensor.backward
def backward(*arguments, **options):
    if os.environ.get("RANK") == "1":
        raise ZeroDivisionError("of this rank")
    return usual(*arguments, **options)
torch.Tensor.backward = backward
"""


INTERRUPT = """
import os, signal, sys
class Importing:
    def find_spec(name, path=None, target=None):
        if name == os.environ["IMPORTED"]:
            sys.meta_path.remove(Importing)
            os.killpg(0, signal.SIGINT)
sys.meta_path.insert(0, Importing)
"""


WITH_GPUS = """
import os
usual = os.path.exists
os.path.exists = lambda path: path == "/dev/nvidiactl" or usual(path)
"""


def training(world: Path, run: Path, processes: int, epochs: int = 1000, **environment: str) -> subprocess.Popen[str]:
    """A training in a process group of its own, as a terminal starts it."""
    changes = settings("model.aspects=[id, sparse]", f"training.epochs={epochs}", "training.checkpoint_every=100000")
    command = [*COMMAND, "train", str(world), "--run-dir", str(run), *changes, "-p", str(processes)]
    return subprocess.Popen(
        command, env=ENVIRONMENT | environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of some processes that have not ended within a second, less than importing takes."""
    end = time.monotonic() + 1
    while (left := [one for one in processes if alive(one)]) and time.monotonic() < end:
        time.sleep(0.02)
    return left


def alive(process: psutil.Process) -> bool:
    """Whether a process does anything any more; its entry may remain until somebody asks for its status."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def listening(processes: list[psutil.Process]) -> list[str]:
    """Addresses at which some processes wait for connections."""
    found = [one for process in processes for one in process.net_connections("inet")]
    return [one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN]


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_ends_every_process(world: Path, tmp_path: Path, processes: int):
    """Until then they listen where this machine alone can reach them; and nothing is left in the temporary folder."""
    (tmp_path / "tmp").mkdir()
    launcher = training(world, tmp_path / "run", processes, TMPDIR=str(tmp_path / "tmp"))
    log = tmp_path / "run" / "metrics.jsonl"
    wait_until(lambda: log.is_file() and log.read_text().count("\n") > 1, launcher)
    all_of_it = psutil.Process(launcher.pid).children(recursive=True)
    assert len(ranks_of(launcher)) == (0 if processes == 1 else processes)
    assert set(listening(all_of_it)) <= {"127.0.0.1", "::1"}
    assert processes == 1 or listening(all_of_it)
    os.killpg(launcher.pid, signal.SIGINT)
    _, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    assert errors.endswith("interrupted: run the same command again to resume\n")
    assert "Traceback" not in errors, errors
    assert "signal" not in errors
    assert not still_there(all_of_it)
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("imported", ["pydantic", "torch", "torchrec"])
@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_ends_what_is_still_importing(world: Path, tmp_path: Path, processes: int, imported: str):
    """With two ranks torchrec is imported by the process that they would be forked from."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT)
    (tmp_path / "tmp").mkdir()
    told = {"PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path / "tmp"), "IMPORTED": imported}
    launcher = training(world, tmp_path / "run", processes, **told)
    out, errors = launcher.communicate(timeout=60)
    lines = [line for line in errors.splitlines() if "checking what there is to do" not in line]  # on a busy machine
    assert (out, lines) == ("", ["interrupted: run the same command again to resume"])
    assert launcher.returncode == 130
    assert not list((tmp_path / "tmp").iterdir())


def test_the_rank_that_failed_is_told_alone(world: Path, tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(FAULT)
    (tmp_path / "tmp").mkdir()
    launcher = training(world, tmp_path / "run", 2, PYTHONPATH=str(tmp_path), TMPDIR=str(tmp_path / "tmp"))
    _, errors = launcher.communicate(timeout=120)
    assert launcher.returncode == 1
    assert errors.count("Traceback") == 1
    assert "rank 1 failed:\nTraceback" in errors
    assert errors.endswith("ZeroDivisionError: of this rank\n")
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("way", ["foundrank", "-m"])
def test_no_file_of_the_working_folder_is_taken_for_a_module(world: Path, tmp_path: Path, way: str):
    """The folder of a project, or of somebody's data, may hold files that are called like modules."""
    for name in ("typer", "statistics", "json", "torchrec", *(["foundrank"] if way == "foundrank" else [])):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise ImportError\n")
    command = [str(Path(sys.executable).with_name("foundrank"))] if way == "foundrank" else COMMAND
    changes = settings("model.aspects=[id, sparse]", "training.epochs=1")
    told = [*command, "train", str(world), "--run-dir", str(tmp_path / "run"), *changes, "-p", "2"]
    done = subprocess.run(told, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_mistake_leaves_nothing_behind(world: Path, tmp_path: Path):
    """Not even the one that ranks would have been forked from, which is still busy importing."""
    command = [*COMMAND, "train", str(world), "--run-dir", str(tmp_path / "run"), "--set", "model.widht=8", "-p", "2"]
    (tmp_path / "tmp").mkdir()
    environment = ENVIRONMENT | {"TMPDIR": str(tmp_path / "tmp")}
    with (tmp_path / "said").open("w") as said:  # not a pipe, which whatever is left would keep open
        launcher = subprocess.Popen(command, start_new_session=True, stderr=said, env=environment)
        assert launcher.wait(60) == 2
    assert not list((tmp_path / "tmp").iterdir())
    assert not still_there([one for one in psutil.process_iter() if os.getsid(one.pid) == launcher.pid])


def test_ranks_that_cannot_be_forked_learn_the_same(world: Path, tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(WITH_GPUS)
    anew = training(world, tmp_path / "anew", 2, epochs=1, PYTHONPATH=str(tmp_path))
    log = tmp_path / "anew" / "metrics.jsonl"
    wait_until(log.is_file, anew)
    assert not ranks_of(anew)
    _, errors = anew.communicate(timeout=120)
    assert anew.returncode == 0, errors
    forked = training(world, tmp_path / "forked", 2, epochs=1)
    wait_until((tmp_path / "forked" / "metrics.jsonl").is_file, forked)
    assert len(ranks_of(forked)) == 2
    forked.communicate(timeout=120)
    assert losses(tmp_path / "anew") == losses(tmp_path / "forked")
