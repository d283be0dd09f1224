"""What can happen to a running command, and making it happen at a moment drawn at random."""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..jobs.commands import COMMAND, ENVIRONMENT, ranks_of
from ..warm_commands import run_warm

HANGS = 120.0  # seconds after which a command that should have ended counts as hanging
_SMALL = 2048  # bytes: no checkpoint, part or shard is smaller

KILL_ALL, KILL_RANK, TERMINATE, NO_SPACE = "kill -9 of all", "kill -9 of a rank", "SIGTERM", "no file above 2 kB"
FULL_DISK, READ_ONLY = "a disk that fills up", "a read-only disk"
FAULTS = (KILL_ALL, KILL_RANK, TERMINATE, NO_SPACE)
DISK_FAULTS = (FULL_DISK, READ_ONLY)
_STATUS = {
    KILL_ALL: {-9},
    KILL_RANK: {1, -9},
    TERMINATE: {75},
    NO_SPACE: {1, 2},
    FULL_DISK: {1, 2},
    READ_ONLY: {1, 2},
}


class Broken(AssertionError):
    """Something that must hold did not, after faults."""


class Disk:
    """A disk of memory that can be filled up and made read-only, mounted on a folder; that takes a root who may mount."""

    _SIZE = "400m"

    def __init__(self, folder: Path):
        """Mounts it on an empty folder."""
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", f"size={self._SIZE}", "tmpfs", str(folder)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

    def fill(self) -> None:
        """Leaves room for a page or two."""
        for _ in range(100):  # while the job writes, what is used may outgrow the size before that is set
            if self._remount(f"size={shutil.disk_usage(self.folder).used + 8192}"):
                return
        raise OSError("the disk does not fill up")

    def lock(self) -> None:
        """Nothing may be written from now on."""
        if not self._remount("ro"):
            raise OSError(f"{self.folder}: a file is still open for writing")

    def free(self) -> None:
        """All is well again."""
        self._remount(f"rw,size={self._SIZE}")

    def remove(self) -> None:
        """Unmounts it; what was on it is gone."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def _remount(self, options: str) -> bool:
        command = ["mount", "-o", f"remount,{options}", str(self.folder)]
        return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0


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
    log.unlink(missing_ok=True)
    status = run_warm(tuple(command.arguments), log, log, Path.cwd(), HANGS)
    if status:
        raise Broken(f"{command.arguments} ended with status {status}:\n{_tail(log)}")
    if status is None:
        raise Broken(f"hangs: {command.arguments}\n{_tail(log)}")


def inject(command: Command, fault: str, draw: random.Random, log: Path, disk: Disk | None) -> None:
    """Runs a command and does something to it: four times of five while it works, else while it starts.

    Args:
        command: what is run.
        fault: one of `FAULTS`, or with a disk of `DISK_FAULTS`.
        draw: of the moment and the rank.
        log: file for what it says.
        disk: the one it writes to, if that can fill up.

    Raises:
        Broken: it hangs, or what it says of the fault is not what it should be.
    """
    at_work, seconds = draw.random() < 0.8, draw.uniform(0, command.seconds)
    if fault == READ_ONLY and disk is not None:
        disk.lock()
    process = _start(command, log, limit=_SMALL if fault == NO_SPACE else None)
    if fault not in (NO_SPACE, READ_ONLY):
        begun = time.monotonic()
        while at_work and process.poll() is None and not command.at_work() and time.monotonic() < begun + HANGS:
            time.sleep(0.01)
        time.sleep(seconds)
        if process.poll() is None and fault == FULL_DISK and disk is not None:
            disk.fill()
        elif process.poll() is None:
            _strike(process, fault, draw)
    status = _end(process, log)
    if disk is not None:
        disk.free()
    if status not in _STATUS[fault] | {0}:
        raise Broken(f"{command.arguments} after {fault}: status {status}, not one of {_STATUS[fault]}:\n{_tail(log)}")


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
        ranks = ranks_of(process)
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


def shift_clock(folder: Path, draw: random.Random) -> None:
    """Dates all files years ahead or back, each by itself, as machines with other clocks would have."""
    for path in folder.rglob("*"):
        when = time.time() + draw.uniform(-1, 1) * 3e8
        os.utime(path, (when, when))


def flip_a_byte(path: Path, draw: random.Random) -> None:
    """Changes one bit of a file."""
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
