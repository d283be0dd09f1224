"""Who holds a folder: what a job writes about itself, and whether one that wrote this is still there."""

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import psutil

from ...data.errors import UserError
from ...data.storage.file_systems import Location
from ...data.storage.json_documents import parse_document
from ...data.storage.mirror import shown
from ..logs.records import warning

EVERY = 15.0
"""Seconds between the signs of life of a holder."""

STALE = 60.0
"""Seconds without one after which a holder that cannot be looked at counts as dead."""


class Lost(Exception):
    """A folder is no longer this job's."""

    def __init__(self, to: "Holder | None"):
        """Args: the job that has it now; None where it, or the lease in it, was removed."""
        super().__init__()
        self.to = to


@dataclass(frozen=True)
class Holder:
    """A job that holds a folder.

    Attributes:
        nonce: tells it from all others.
        command: what it does, e.g. ``train``.
        host: its host's name.
        pid: of the process that holds the folder.
        started: when that process was started, in seconds since 1970 by its own clock.
        machine: which start of which machine, as the kernel numbers them; empty where that is not known.
        processes: in which of its spaces of process ids, as each container has one.
        job: what a scheduler calls it; empty without one.
        attempt: which start of that job.
        since: when it took the folder.
        device: number of the file system that the folder is in, on its machine; 0 where that is no such thing.
    """

    nonce: str
    command: str
    host: str
    pid: int
    started: float
    machine: str
    processes: str
    job: str
    attempt: str
    since: str
    device: int

    def content(self) -> bytes:
        """What is written into a folder."""
        return json.dumps(asdict(self)).encode()

    def told(self) -> str:
        """What to say of it."""
        if not self.nonce:
            return "one that has only just begun"
        of_scheduler = f", {self.job}" if self.job else ""
        return f"`foundrank {self.command}` on host {self.host}, process {self.pid}{of_scheduler}, since {self.since}"

    def same_machine(self, other: "Holder") -> bool:
        """Whether both run on one machine."""
        return bool(self.machine) and self.machine == other.machine

    def is_gone(self, me: "Holder") -> bool | None:
        """Whether it has certainly ended; None where ``me``, who asks, cannot know."""
        if not self.same_machine(me) or self.processes != me.processes:
            # A scheduler starts a job again when its last start has ended.
            return True if self.job and self.job == me.job and self.attempt != me.attempt else None
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > 1
        except psutil.NoSuchProcess:
            return True


UNNAMED = Holder("", "", "", 0, 0.0, "", "", "", "", "", 0)
"""One that has taken a folder, and has not yet written who it is."""


def myself(command: str) -> Holder:
    """This process, about to hold a folder."""
    job, attempt = _scheduled()
    return Holder(
        nonce=uuid.uuid4().hex,
        command=command,
        host=socket.gethostname(),
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        machine=_read("/proc/sys/kernel/random/boot_id"),
        processes=_link("/proc/self/ns/pid"),
        job=job,
        attempt=attempt,
        since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        device=0,
    )


def written(content: bytes | None) -> Holder | None:
    """The holder that a file names; None where it names none, as one that was cut short."""
    try:
        found = parse_document(content or b"", "", Holder, "")
    except UserError:
        return None
    return Holder(**{field.name: found[field.name] for field in fields(Holder)})


def tell_taken_over(folder: Location, holder: Holder, silent: float) -> None:
    """Tells that a job which may be at work has been silent for too many seconds."""
    said = f"{folder}: {holder.told()} has not been heard of for {silent:,.0f} s; this job takes over"
    warning(shown(said), "taken_over", folder=str(folder), silent_s=silent)


def _scheduled() -> tuple[str, str]:
    """What a scheduler calls this job, and which start of it this is; empty without one."""
    environment = os.environ
    restart = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
    if slurm := environment.get("SLURM_JOB_ID"):
        array = environment.get("SLURM_ARRAY_JOB_ID")
        slurm = f"{array}_{environment.get('SLURM_ARRAY_TASK_ID')}" if array else slurm
        cluster = environment.get("SLURM_CLUSTER_NAME")
        of_cluster = f" of cluster {cluster}" if cluster else ""
        return f"Slurm job {slurm}{of_cluster}", f"{environment.get('SLURM_RESTART_COUNT', '0')}.{restart}"
    if environment.get("KUBERNETES_SERVICE_HOST"):
        return f"pod {socket.gethostname()}", _start_of_pod()
    run = environment.get("TORCHELASTIC_RUN_ID")
    return (f"torchrun {run}", restart) if run and run != "none" else ("", "")


@cache
def _start_of_pod() -> str:
    """A pod has one container of a name at a time: whatever else holds as this pod has ended."""
    return uuid.uuid4().hex


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""  # another system than Linux


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
