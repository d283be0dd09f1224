"""A Slurm cluster of two nodes on this machine, without systemd, in a folder of its own."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from ..jobs.commands import ENVIRONMENT

PARTITION, URGENT = "normal", "urgent"
# Ranks connect to a node by its name, and the names n1 and n2 would need lines in this machine's hosts file.
NODES = ("127.0.0.1", "127.0.0.2")
CONFIGURATION = """
ClusterName=foundrank
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until the credentials of its last start are void: two minutes, if nothing else is said.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=bf_interval=1,sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={nodes[0]} NodeHostname=localhost Port={ports[1]} CPUs=1 RealMemory=4000
NodeName={nodes[1]} NodeHostname=localhost Port={ports[2]} CPUs=1 RealMemory=4000
PartitionName={partition} Nodes=ALL Default=YES PriorityTier=1
PartitionName={urgent} Nodes=ALL PriorityTier=2
"""


class Cluster:
    """A running cluster, as its users see it."""

    def __init__(self, folder: Path, free_port: int):
        """Args: where slurm.conf is, and a port that nothing listens at."""
        self._folder = folder
        self._daemons: list[subprocess.Popen] = []
        path = f"{Path(sys.executable).parent}:{ENVIRONMENT['PATH']}:/usr/sbin:/sbin"
        self.environment = {**ENVIRONMENT, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
        self.free_port = free_port

    def run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command of Slurm or TorchX to its end."""
        return subprocess.run(
            command, cwd=cwd, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )

    def call(self, *command: str) -> str:
        """What a command says, which must succeed."""
        done = self.run(*command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def job(self, job: str) -> dict[str, str]:
        """What the controller knows of a job, or of the first node's part of it: JobState, Restarts, ExitCode, ..."""
        first = self.call("scontrol", "show", "job", "--oneliner", job).splitlines()[0]
        return dict(word.split("=", 1) for word in first.split() if "=" in word)

    def wait(self, job: str, state: str) -> dict[str, str]:
        """Waits for a job to be in a state."""
        wait_until(lambda: self.job(job)["JobState"] == state, lambda: f"not {state}: {self.job(job)}")
        return self.job(job)

    def wait_for_restart(self, job: str) -> None:
        """Waits for a requeued job to run again."""

        def runs() -> bool:
            # The backfill scheduler, which alone starts jobs of several parts, looks again when something has changed.
            self.run("scontrol", "update", f"JobId={job}", "Comment=again")
            return self.job(job)["JobState"] == "RUNNING"

        wait_until(runs, lambda: f"not started again: {self.job(job)}")

    def processes(self) -> list[dict[str, str]]:
        """The environment of each process that jobs have started on the nodes."""
        return [environment for _, environment in self._ours() if "SLURM_STEP_ID" in environment]

    def start(self, *command: str) -> None:
        """Starts one of the daemons."""
        with (self._folder / f"{len(self._daemons)}.said").open("w") as said:
            daemon = subprocess.Popen(
                command, cwd=self._folder, env=self.environment, stdout=said, stderr=subprocess.STDOUT
            )
        self._daemons.append(daemon)

    def said(self) -> str:
        """What the daemons said."""
        return "\n".join(path.read_text() for path in sorted(self._folder.glob("*.said")))

    def kill(self) -> None:
        """Ends all there is of the cluster."""
        while ours := self._ours():  # again, as what is ended last may have started something
            for one, _ in ours:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            time.sleep(0.1)
        for daemon in self._daemons:
            daemon.wait()

    def _ours(self) -> list[tuple[psutil.Process, dict[str, str]]]:
        found = []
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = one.environ()  # slurmstepd writes its title over it, but stays in slurmd's folder
                if environment.get("SLURM_CONF") == self.environment["SLURM_CONF"] or one.cwd() == str(self._folder):
                    found.append((one, environment))
        return found


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A controller and two nodes; skips the test where Slurm cannot be run."""
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons need root")
    with ExitStack() as stack:
        # Not pytest's folder: a socket's path has room for 107 bytes.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)))
        *ports, free_port = _free_ports(4)
        slurm = Cluster(folder, free_port)
        for program in ("slurmctld", "slurmd", "sbatch", "munged"):
            if shutil.which(program, path=slurm.environment["PATH"]) is None:
                pytest.skip(f"{program} is not installed (Debian: slurm-wlm and munge)")
        text = CONFIGURATION.format(folder=folder, ports=ports, nodes=NODES, partition=PARTITION, urgent=URGENT)
        (folder / "slurm.conf").write_text(text)
        (folder / "key").write_bytes(os.urandom(1024))
        (folder / "key").chmod(0o400)
        (folder / "state").mkdir()
        files = {
            "socket": "munge.socket",
            "key-file": "key",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        stack.callback(slurm.kill)
        slurm.start("munged", "--foreground", "--force", *(f"--{name}={folder / file}" for name, file in files.items()))
        wait_until((folder / files["socket"]).exists, slurm.said)
        slurm.start("slurmctld", "-D", "-i")
        for node in NODES:
            slurm.start("slurmd", "-D", "-N", node)
        states = ("sinfo", "--noheader", "--partition", PARTITION, "--Node", "--format=%T")
        wait_until(lambda: slurm.run(*states).stdout.split() == ["idle"] * len(NODES), slurm.said)
        yield slurm


def wait_until(ready: Callable[[], bool], told: Callable[[], str], seconds: float = 120) -> None:
    """Waits, and fails with what is ``told`` after too long."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, told()
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens at, below those that the system gives to whoever asks for any: other tests do, meanwhile."""
    with ExitStack() as bound:
        found: list[int] = []
        for port in random.SystemRandom().sample(range(20_000, 32_000), 12_000):
            one = bound.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind(("", port))
                found.append(port)
            if len(found) == count:
                break
        return found
