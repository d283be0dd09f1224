"""A run that is updated day after day: its events, and what is looked at of it."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from foundrank.data.simulation.worlds import simulate
from foundrank.dist.run.checkpoint_reader import read_plain, read_tensors, saved_tensors
from foundrank.dist.run.kept_checkpoints import best
from foundrank.dist.run.run_folder import INCREMENTS

from .commands import ENVIRONMENT, WITHOUT_DROPOUT, foundrank, settings

MANAGED = settings(
    *WITHOUT_DROPOUT, "text.vectors=random", "training.epochs=3", "training.batch_size=32", "training.checkpoint_every=5",
    "entities.item.encoding=managed", "entities.item.rows=60", "entities.item.expire_after=2",
    "entities.user.encoding=managed", "entities.user.rows=400",
    "entities.item.features.brand.encoding=managed", "entities.item.features.brand.rows=60", "entities.user.expire_after=3",
)  # fmt: skip


def simulated_feed(folder: Path) -> Path:
    """Ten days of a feed, with vectors of its texts."""
    simulate(folder, rows=10_000, days=10)
    foundrank("embed", folder, "--set", "text.vectors=random")
    return folder


def day(feed: Path, number: int) -> str:
    return str(feed / f"events/feed/day=2026-01-{number:02d}/*.parquet")


def record(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "increments.jsonl").read_text().splitlines()]


def current(run: Path) -> Path:
    return run / json.loads((run / "current.json").read_text())["run"]


def everything(run: Path) -> dict[str, torch.Tensor]:
    """All that the best checkpoint of a version holds."""
    folder = best(run)
    found = {name: torch.empty(of.size) for name, of in saved_tensors(folder).items()}
    read_tensors(folder, found)
    for at, states in read_plain(folder / "dense_optimizer.pt")["state"].items():
        found |= {f"{at} {name}": value for name, value in states.items()}
    return found


def assert_same(one: Path, other: Path) -> None:
    mine, others = everything(one), everything(other)
    assert mine.keys() == others.keys()
    for name, value in mine.items():
        assert torch.equal(value, others[name]), name
    for file in sorted((one / "vocabulary").iterdir()):
        assert file.read_bytes() == (other / "vocabulary" / file.name).read_bytes(), file.name


def kill_at(run: Path, command: list[str], moment: str) -> None:
    """Kills a command at a moment of its second increment."""
    signs = {
        "counted": lambda: [*run.glob(f"{INCREMENTS}/00002-*/experiment.yaml")],
        "checkpoint": lambda: [*run.glob(f"{INCREMENTS}/00002-*/checkpoints/*/COMMITTED")],
        "published": lambda: [True] * ("00002-" in (run / "current.json").read_text()),
    }
    process = subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        for _ in range(6000):
            if signs[moment]() or process.poll() is not None:
                break
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, 9)
        process.wait()
    assert signs[moment]()
