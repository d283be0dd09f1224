"""A trial's training: ``foundrank train`` in a process of its own, watched through the files that it writes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...data.machine.limits import cpus
from ...data.storage.local_writes import write_text
from ..lease.holder import myself
from ..lease.lease import Claim, holder_of
from ..logs import settings
from ..run.run_documents import Validation
from ..run.run_folder import METRICS, VALIDATION, read_json

EXPERIMENT, LOG, RUN = "experiment.yaml", "log.txt", "run"
_PATIENCE = 60.0  # seconds that an asked training has to write a checkpoint
_NOT_THEIRS = (settings.FORMAT, settings.QUIET, settings.METRICS_FILE, "SLURM_PROCID", "RANK", "WORLD_SIZE")


class Training:
    """One process that trains, and what it has validated."""

    def __init__(self, folder: Path, experiment: str, counts: Path, ranks: int, slot: int, slots: int):
        """Starts it; a training that was interrupted goes on.

        Args:
            folder: of the trial.
            experiment: as YAML.
            counts: folder of what is counted of the data.
            ranks: processes of the training.
            slot: which of those at work on this machine at the same time it is.
            slots: how many these are at most.
        """
        self.run, self._log = folder / RUN, folder / LOG
        self._seen: tuple[int, int] | None = None
        end_left(self.run)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / EXPERIMENT, experiment)
        command = [sys.executable, "-P", "-m", "foundrank.dist.cli", "train", str(folder / EXPERIMENT)]
        command += ["--run-dir", str(self.run), "--counts", str(counts), "--no-progress", "-p", str(ranks)]
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_THEIRS}
        environment |= share_of_machine(environment, ranks, slot, slots)
        with self._log.open("a", encoding="utf-8") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env=environment
            )

    def status(self) -> int | None:
        """What it has ended with; None while it is at work."""
        return self._process.poll()

    def stop(self) -> None:
        """Asks it to write a checkpoint and end, and waits until it has."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def validated(self) -> Mapping[str, Any] | None:
        """``validation.json``, where it is another than when this was asked before."""
        try:
            status = os.stat(self.run / VALIDATION)
        except FileNotFoundError:
            return None
        if (seen := (status.st_mtime_ns, status.st_ino)) == self._seen:
            return None
        self._seen = seen
        return read_json(self.run / VALIDATION, Validation, {})

    def has_begun(self) -> bool:
        """Whether it has made steps."""
        path = self.run / METRICS
        return path.is_file() and path.stat().st_size > 0

    def said_last(self, lines: int = 4) -> str:
        """The end of what it has said."""
        said = [line.strip() for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines()]
        return " ".join([line for line in said if line][-lines:])


def end_left(run: Path) -> None:
    """Ends a training that goes on here without the process that watched it, which was killed."""
    me, deadline = myself("tune"), time.monotonic() + _PATIENCE
    claim = Claim(run, "train")
    while run.is_dir() and (holder := holder_of(claim)) is not None and holder.same_machine(me):
        with suppress(ProcessLookupError):
            os.kill(holder.pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
        time.sleep(0.5)


def share_of_machine(environment: Mapping[str, str], ranks: int, slot: int, slots: int) -> dict[str, str]:
    """Variables that give a training its part of the CPUs, and GPUs of its own where there are any.

    Args:
        environment: what is set already.
        ranks: processes of a training.
        slot: which of the trainings at work it is.
        slots: how many these are at most.
    """
    found = {}
    if not environment.get("OMP_NUM_THREADS", "")[:1].isdigit():
        found["OMP_NUM_THREADS"] = str(max(1, cpus() // (slots * ranks)))
    if (devices := gpus(environment)) and slots > 1:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(devices[(slot * ranks + n) % len(devices)] for n in range(ranks))
    return found


def gpus(environment: Mapping[str, str] = os.environ) -> Sequence[str]:
    """The GPUs that may be used here, as CUDA names them."""
    if (visible := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name.strip()]
    import torch  # slow to import, and by now it is there

    return [str(number) for number in range(torch.cuda.device_count())]
