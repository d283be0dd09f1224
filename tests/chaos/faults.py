"""What can happen to a running command, and making it happen at a moment drawn at random."""

import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..jobs.commands import COMMAND, ENVIRONMENT

HANGS = 120.0  # seconds after which a command that should have ended counts as hanging
_SMALL = 2048  # bytes: no checkpoint, part or shard is smaller

KILL_ALL, KILL_RANK, TERMINATE, NO_SPACE = "kill -9 of all", "kill -9 of a rank", "SIGTERM", "no space"
FAULTS = (KILL_ALL, KILL_RANK, TERMINATE, NO_SPACE)


class Broken(AssertionError):
    """Something that must hold did not, after faults."""


@dataclass
class Command:
    """A command line, and when it is at work.

    Attributes:
        arguments: of ``foundrank``.
        at_work: whether it has begun what it is for; before that it starts up.
        seconds: about how long it works.
    """

    arguments: list[str]
    at_work: Callable[[], bool]
    seconds: float


def run(command: Command, log: Path) -> None:
    """Runs a command to its end, which must be a good one.

    Raises:
        Broken: it failed, or hangs.
    """
    status = _end(_start(command, log), log)
    if status:
        raise Broken(f"{command.arguments} ended with status {status}:\n{_tail(log)}")


def inject(command: Command, fault: str, draw: random.Random, log: Path) -> None:
    """Runs a command and does something to it: four times of five while it works, else while it starts.

    Raises:
        Broken: it hangs, or what it says of the fault is not what it should be.
    """
    at_work, seconds = draw.random() < 0.8, draw.uniform(0, command.seconds)
    process = _start(command, log, limit=_SMALL if fault == NO_SPACE else None)
    if fault != NO_SPACE:
        begun = time.monotonic()
        while at_work and process.poll() is None and not command.at_work() and time.monotonic() < begun + HANGS:
            time.sleep(0.01)
        time.sleep(seconds)
        if process.poll() is None:
            _strike(process, fault, draw)
    status = _end(process, log)
    expected = {KILL_ALL: {-9}, KILL_RANK: {1, -9}, TERMINATE: {75, -15, 143}, NO_SPACE: {1, 2}}[fault] | {0}
    if status not in expected:
        raise Broken(f"{command.arguments} after {fault}: status {status}, not one of {expected}:\n{_tail(log)}")


def _start(command: Command, log: Path, limit: int | None = None) -> subprocess.Popen:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit or 0, resource.RLIM_INFINITY))

    with log.open("w") as said:
        return subprocess.Popen(
            [*COMMAND, *command.arguments],
            env=ENVIRONMENT | {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "20"},
            stdout=subprocess.DEVNULL,
            stderr=said,
            preexec_fn=small_files if limit else None,
        )


def _strike(process: subprocess.Popen, fault: str, draw: random.Random) -> None:
    try:
        family = psutil.Process(process.pid).children(recursive=True)
        ranks = [one for one in family if "foundrank.dist.cli" in one.cmdline()]
        if fault == TERMINATE:
            process.send_signal(signal.SIGTERM)
        elif fault == KILL_RANK:
            (draw.choice(ranks) if ranks else psutil.Process(process.pid)).kill()
        else:
            for one in family:
                one.send_signal(signal.SIGSTOP)  # so that none sees another die
            for one in (*family, psutil.Process(process.pid)):
                one.kill()
    except psutil.NoSuchProcess:
        return  # it ended by itself just now


def _end(process: subprocess.Popen, log: Path) -> int:
    try:
        return process.wait(HANGS)
    except subprocess.TimeoutExpired:
        for one in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
            one.kill()
        raise Broken(f"hangs: {process.args}\n{_tail(log)}") from None


def _tail(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-15:])


def flip_a_byte(path: Path, draw: random.Random) -> None:
    """Changes one bit of a file."""
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
