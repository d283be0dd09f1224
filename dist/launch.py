"""Starting R processes of a command on this machine."""

import os
import subprocess
import sys
from collections.abc import Sequence


def launched() -> bool:
    """Whether a launcher such as torchrun started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def spawn(arguments: Sequence[str], processes: int) -> int:
    """Runs ``foundrank ARGUMENTS`` as ``processes`` ranks under torchrun and waits; the exit code of the job.

    Standard output and errors of all ranks come through; torchrun ends every rank when one fails.
    """
    threads = max(1, (os.cpu_count() or 1) // processes)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nnodes=1",
        f"--nproc-per-node={processes}",
    ]
    return subprocess.run([*command, "-m", "foundrank.dist.cli", *arguments], env=environment, check=False).returncode


def default_processes() -> int:
    """One process per GPU, or one where there is none."""
    import torch  # slow to import, and the command line answers --help without it

    return max(1, torch.cuda.device_count())
