"""foundrank's own commands as jobs of a benchmark."""

import subprocess
import sys
import tempfile
import time

import psutil

_LOOK_EVERY = 0.1  # seconds


def run_foundrank(*arguments: object) -> str:
    """Runs a command line and returns what it printed."""
    return run_watched(*arguments)[0]


def run_watched(*arguments: object) -> tuple[str, list[float]]:
    """Runs a command line.

    Returns:
        What it printed, and the most memory in MB that each of its processes was seen to hold, largest first.
    """
    command = [sys.executable, "-m", "foundrank.dist.cli", *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as said:
        process = psutil.Popen(command, stdout=said, stderr=subprocess.DEVNULL)
        most: dict[int, int] = {}
        while process.poll() is None:
            for each in (process, *_children(process)):
                try:
                    most[each.pid] = max(most.get(each.pid, 0), each.memory_info().rss)
                except psutil.Error:
                    continue  # it has just ended
            time.sleep(_LOOK_EVERY)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        said.seek(0)
        return said.read(), sorted((size / 2**20 for size in most.values()), reverse=True)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []
