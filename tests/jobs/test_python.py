"""foundrank from Python: in scripts, on ranks, in threads and beside event loops, and what it leaves of a process."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
import pytest
import torch
import yaml

import foundrank
from foundrank.dist.train.observers import Step
from foundrank.dist.train.training_log import TrainingLog
from foundrank.model.heads.mmoe import MMoE

from .python_script import TINY

SCRIPT = Path(__file__).with_name("python_script.py")

LEFT_ALONE = """
import asyncio, logging, multiprocessing, os, signal, sys, tempfile, threading, warnings
import foundrank
assert not {"torch", "pyarrow", "rich", "pydantic"} & set(sys.modules), "imported with foundrank"

def state():
    import pyarrow as pa, torch
    return {
        "environment": dict(os.environ),
        "interval": sys.getswitchinterval(),
        "signals": {one: signal.getsignal(one) for one in signal.valid_signals()},
        "warnings": list(warnings.filters),
        "loggers": {name: logging.getLogger(name).level for name in ("", "torch", "torch.distributed", "torchrec", "transformers")},
        "threads": {thread.name for thread in threading.enumerate()},
        "children": multiprocessing.active_children(),
        "pool": pa.default_memory_pool().backend_name,
        "of torch": (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_default_dtype(),
                     torch.is_grad_enabled(), torch.initial_seed(), torch.get_rng_state().tolist()),
        "group": torch.distributed.is_initialized(),
        "cpus": os.sched_getaffinity(0),
        "folder": (os.getcwd(), tempfile.gettempdir()),
        "streams": (sys.stdout, sys.stderr, sys.excepthook, sys.argv),
    }

def changed(before, after):
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}

class NoTerminal:
    def write(self, text):
        return len(text)
    def flush(self):
        pass
    def isatty(self):
        return False

before = state()
sys.argv = [""]
import runpy
def work(folder):
    sys.argv = ["", WORLD, folder, "1"]
    runpy.run_path(SCRIPT, run_name="__main__")

async def in_a_loop():
    work(RUN)

before["streams"] = (*before["streams"][:3], ["", WORLD, RUN, "1"])
asyncio.run(in_a_loop())
assert not changed(before, state()), changed(before, state())
thread = threading.Thread(target=work, args=(RUN + "-in-a-thread",))
thread.start()
thread.join()
before["streams"] = (*before["streams"][:3], sys.argv)
assert not changed(before, state()), changed(before, state())
"""


def python(*command: object, **environment: str) -> list[str]:
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("[[")]


@pytest.fixture(scope="module")
def alone(world: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the script says, in the main thread beside an event loop and then in another thread of the same process."""
    run = str(tmp_path_factory.mktemp("python") / "run")
    names = f"WORLD, RUN, SCRIPT = {str(world)!r}, {run!r}, {str(SCRIPT)!r}\n"
    return python(sys.executable, "-c", names + LEFT_ALONE)


def test_a_process_is_left_as_it_was_and_trains_twice_alike(alone):
    first, second = map(json.loads, alone)
    assert first == second
    losses, measured, scores = first
    assert len(losses) == 6
    assert measured > 10
    assert len(scores) == 50


class Mine(MMoE):
    """A head of one's own, with another name."""

    head: Literal["mine"] = "mine"


def test_a_head_of_ones_own_goes_with_the_experiment_and_its_run(world, tmp_path):
    kinds, changes = foundrank.KINDS.with_(heads={"mine": Mine}), dict(TINY)
    changes["model"] = changes["model"] | {"head": "mine"}
    experiment = foundrank.load_experiment(world, kinds=kinds, **changes)
    run = foundrank.train(experiment, tmp_path / "run")
    assert isinstance(run.experiment.model.head, Mine)
    rows = pq.read_table(world / "events/shop_feed/test").slice(0, 9)
    scores = foundrank.load(tmp_path / "run", kinds=kinds).score(rows, "shop_feed")
    assert foundrank.load(run).score(rows, "shop_feed").equals(scores)
    with pytest.raises(foundrank.UserError, match="mine"):
        foundrank.load(tmp_path / "run")


def test_what_is_stepped_through_learns_the_same_without_threads_or_watchdog(world, tmp_path, monkeypatch):
    """In layers' plain form, so up to rounding; without dropout, which draws other units there."""
    changes = {**TINY, "model": {**TINY["model"], "dropout": 0, "id_dropout": 0, "hide_rare_items": 0}}
    experiment = foundrank.load_experiment(world, **changes)
    usual = foundrank.train(experiment, tmp_path / "usual").metrics()
    monkeypatch.setenv("FOUNDRANK_DEBUG", "1")
    monkeypatch.setenv("FOUNDRANK_PLAIN", "all")
    threads, after_step = set(), TrainingLog.after_step

    def look(log: TrainingLog, step: Step) -> None:
        threads.update(thread.name for thread in threading.enumerate())
        assert torch.is_anomaly_enabled()
        after_step(log, step)

    monkeypatch.setattr(TrainingLog, "after_step", look)
    stepped = foundrank.train(experiment, tmp_path / "stepped").metrics()
    assert not threads & {"reader", "watchdog", "progress"}
    assert not torch.is_anomaly_enabled()
    losses = [[line["loss"] for line in lines] for lines in (stepped, usual)]
    assert len(losses[0]) == 6
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_an_interrupted_training_ends_what_it_began_and_can_go_on(world, tmp_path, monkeypatch):
    def interrupt(log: TrainingLog, step: Step) -> None:
        raise KeyboardInterrupt

    experiment, before = foundrank.load_experiment(world, **TINY), set(threading.enumerate())
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLog, "after_step", interrupt)
        with pytest.raises(KeyboardInterrupt) as raised:  # which holds the frames, as notebooks do
            foundrank.train(experiment, tmp_path / "run")
    assert not {thread.name for thread in set(threading.enumerate()) - before} & {"watchdog", "reader"}
    assert len(foundrank.train(experiment, tmp_path / "run").metrics()) == 6
    assert raised.tb is not None


def test_an_experiment_may_be_a_dict(world):
    raw = yaml.safe_load((world / "experiment.yaml").read_text())
    for domain in raw["domains"].values():
        domain["events"] = {split: str(world / pattern) for split, pattern in domain["events"].items()}
    given = foundrank.load_experiment(raw, training={"epochs": 7}, text={"encoder": "a; b"})
    assert (given.training.epochs, given.text.encoder) == (7, "a; b")
    assert given.domains == foundrank.load_experiment(world).domains
    with pytest.raises(foundrank.UserError, match=r"training\.epoch"):
        foundrank.load_experiment(raw, training={"epoch": 7})


def test_ranks_of_a_script_do_what_those_of_torchrun_do(world, tmp_path, alone):
    (spawned,) = python(sys.executable, SCRIPT, world, tmp_path / "spawned", 2)
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2, "--standalone")
    launched = python(*torchrun, SCRIPT, world, tmp_path / "launched", 1)
    assert [json.loads(line) for line in launched] == [json.loads(spawned)] * 2
    assert json.loads(spawned)[0] != json.loads(alone[0])[0]  # of two ranks, each with a batch of its own
