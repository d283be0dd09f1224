"""One simulated world and one trained run for all job tests."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundrank.dist.cli import main as cli
from foundrank.dist.ranks.launch import SIGNALS

from .commands import WITHOUT_DROPOUT, Here, foundrank, settings
from .updates import MANAGED, simulated_feed


class _Exit(Exception):
    pass


TRAIN = settings(*WITHOUT_DROPOUT, "training.checkpoint_every=10")


@pytest.fixture(scope="session")
def embedded(world: Path) -> Path:
    """The world with MiniLM's vectors of every text."""
    foundrank("embed", world)
    return world


@pytest.fixture(scope="session")
def train_arguments() -> list[str]:
    """Options of the command that made ``run``."""
    return [*TRAIN, "-p", "2"]


@pytest.fixture(scope="session")
def run(embedded: Path, train_arguments: list[str]) -> Path:
    """A run of two epochs on two processes, evaluated on the test split."""
    folder = embedded.parent / "run"
    foundrank("train", embedded, "--run-dir", folder, "--profile", *train_arguments)
    foundrank("evaluate", folder, "-p", "2")
    return folder


@pytest.fixture(scope="session")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten days of a feed, three of which are trained on, and their run, ``RUN``."""
    folder = simulated_feed(tmp_path_factory.mktemp("feed"))
    foundrank("train", folder, "--run-dir", folder / "RUN", "-p", 2, *MANAGED)
    return folder


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Here]:
    """Runs a command in this process: its status, and what it wrote to standard error."""

    def call(*arguments: object) -> tuple[int, str]:
        def leave(status: int) -> None:
            raise _Exit(status)

        monkeypatch.setattr(os, "_exit", leave)
        monkeypatch.setattr(sys, "argv", ["foundrank", *map(str, arguments)])
        try:
            cli.main()
        except (_Exit, SystemExit) as left:
            return int(left.args[0] or 0), capfd.readouterr().err
        return 0, capfd.readouterr().err

    before = {one: signal.getsignal(one) for one in (signal.SIGINT, *SIGNALS)}  # the command's process is this one
    yield call
    for one, handler in before.items():
        signal.signal(one, handler)
