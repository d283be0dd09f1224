"""Whether this process is a rank, whose, and what there is to know before ranks are started on this machine."""

import os
import signal
import sys
from collections.abc import Sequence

from ...data.errors import UserError
from ...data.machine.memory import use_one_heap
from ..quick_imports import quick_imports
from .cores import set_threads
from .environment import launched

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What schedulers send some time before they kill: Kubernetes and Slurm the first; Slurm the second, with --signal=USR1@SECONDS."""

STORE = "FOUNDRANK_STORE"
"""Variable of the ranks that `local_ranks.spawn` starts: the file in which they meet."""

TOLD = ".told"
"""Ending of the name of the file beside it, which the first rank to tell what is wrong makes."""


def tell_interrupted() -> None:
    print("interrupted: run the same command again to resume", file=sys.stderr, flush=True)


def tell_stopping(number: int) -> None:
    said = f"{signal.Signals(number).name}: stopping; run the same command again to resume"
    print(said, file=sys.stderr, flush=True)


def store_file() -> str | None:
    """The file in which the ranks of this machine meet, where this process is one that foundrank has started."""
    return os.environ.get(STORE)


def preload(modules: Sequence[str], processes: int | None) -> None:
    """Has ranks' imports begin, in a process that `spawn` forks the ranks from; meanwhile this one can check and count.

    Args:
        modules: what a rank will import.
        processes: how many ranks were asked for, if any were.
    """
    if launched() or processes is None or processes == 1 or not forks():
        return
    # For start-up time: one process alone does without.
    from multiprocessing import forkserver, resource_tracker, set_forkserver_preload

    set_threads(processes)
    set_forkserver_preload(list(modules))
    resource_tracker.ensure_running()  # which unblocks signals
    # Ctrl-C reaches it too, and Python would tell a traceback of its imports. This process heeds it, then; and so do ranks.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    use_one_heap()  # this one will wait while ranks work; several heaps keep more of what counting takes


def forks() -> bool:
    """Whether ranks can be forked: what the libraries of GPUs begin does not survive that, nor what macOS's own do."""
    return sys.platform == "linux" and not any(os.path.exists(driver) for driver in ("/dev/nvidiactl", "/dev/kfd"))


def check_gpus(processes: int) -> None:
    """Makes sure that each of some ranks on this machine has a GPU of its own, where it has any.

    Raises:
        UserError: more ranks than GPUs.
    """
    with quick_imports(own_process=False):
        import torch  # slow to import, and --help does without it

    gpus = torch.cuda.device_count()
    if gpus and processes > gpus:
        raise UserError(
            "the number of processes",
            f"is {processes} on a machine with {gpus} GPU(s), and each takes one of its own",
            f"Start {gpus} (-p {gpus}, --nproc_per_node {gpus}), or set CUDA_VISIBLE_DEVICES='' to use CPUs.",
        )


def default_processes() -> int:
    """One process per GPU, or one where there is none."""
    with quick_imports(own_process=False):
        import torch  # slow to import, and the command line answers --help without it

    return max(1, torch.cuda.device_count())
