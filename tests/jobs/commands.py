"""The real commands in processes of their own."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil

from ..warm_commands import run_warm

Here = Callable[..., tuple[int, str]]
COMMAND = [sys.executable, "-m", "foundrank.dist.cli"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

TINY = (
    "model.embedding_dim=8", "model.width=16", "model.domain_width=16", "model.experts=2", "model.expert_widths=[16, 8]",
    "model.tower_widths=[8]", "training.batch_size=128", "training.shuffle_rows=2048", "training.log_every=1",
    "training.learning_rate=0.005",
)  # fmt: skip
WITHOUT_DROPOUT = ("model.dropout=0", "model.id_dropout=0", "model.hide_rare_items=0")


def foundrank(*arguments: object, status: int = 0, timeout: float = 180) -> subprocess.CompletedProcess[str]:
    """Runs ``foundrank ARGUMENTS`` and checks its exit status."""
    command = tuple(map(str, arguments))
    with tempfile.TemporaryDirectory() as folder:
        out, errors = Path(folder) / "out", Path(folder) / "errors"
        ended = run_warm(command, out, errors, Path.cwd(), timeout)
        done = subprocess.CompletedProcess(
            command,
            -9 if ended is None else ended,
            *(file.read_text() if file.exists() else "" for file in (out, errors)),
        )
    assert done.returncode == status, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done


def ranks_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The ranks that a command has started, rank 0 first."""
    servers = [one for one in psutil.Process(process.pid).children() if "forkserver" in " ".join(one.cmdline())]
    return sorted((rank for server in servers for rank in server.children()), key=lambda rank: rank.pid)


def settings(*changes: str) -> list[str]:
    """``--set`` options for a tiny model, and changes."""
    return [word for change in (*TINY, *changes) for word in ("--set", change)]


def without_temporaries(folder: Path) -> list[str]:
    """Names in a folder; none may be what an interrupted write leaves."""
    names = sorted(path.name for path in folder.iterdir())
    assert not [name for name in names if ".tmp" in name], names
    return names
