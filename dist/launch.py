"""Starting R processes of a command on this machine."""

import gc
import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

from ..data.errors import UserError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What schedulers send some time before they kill: Kubernetes and Slurm the first; Slurm the second, with --signal=USR1@SECONDS."""

INTERRUPTED = 128 + signal.SIGINT
"""Exit status after Ctrl-C, as a shell says it."""

TRY_AGAIN = 75
"""Exit status of what was asked to stop and goes on when it is run again; EX_TEMPFAIL of sysexits.h."""

_PREPARED = "FOUNDRANK_PREPARED"


def launched() -> bool:
    """Whether a launcher such as torchrun started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def prepared() -> bool:
    """Whether the process that started this one as a rank has just checked what it will work on."""
    return _PREPARED in os.environ


def as_prepared(arguments: Sequence[str]) -> None:
    """What a rank of `spawn` begins with."""
    from .cli import run_rank

    gc.freeze()  # looking for garbage in what the process it was forked from imported would copy every page of that
    os.environ[_PREPARED] = "1"
    run_rank(arguments)


def preload(module: str, processes: int | None) -> None:
    """Has ranks' imports begin, in a process that `spawn` forks the ranks from; meanwhile this one can check and count.

    Args:
        module: what a rank will import.
        processes: how many ranks were asked for, if any were.
    """
    if launched() or processes is None or processes == 1 or not _forks():
        return
    from multiprocessing import forkserver, set_forkserver_preload

    _set_threads(processes)
    # Not the command line's own module: where it is the main one, every rank runs it once more.
    set_forkserver_preload(["foundrank.dist.quiet", "foundrank.dist.cli_jobs", module])
    forkserver.ensure_running()


def spawn(arguments: Sequence[str], processes: int) -> int:
    """Runs ``foundrank ARGUMENTS`` as ``processes`` ranks and waits; the exit status of the first rank that failed, or 0.

    Standard output and errors of all ranks come through; when one fails the others are ended. A signal is passed on to the
    ranks, which have TORCH_ELASTIC_SHUTDOWN_TIMEOUT seconds to end, 30 if it is not set.
    """
    # Slow to import, and the command line answers --help without them.
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _set_threads(processes)
    # A rank says itself why it failed, and the signal is the user's.
    for name in ("distributed.elastic", "distributed.elastic.agent.server.api", "multiprocessing.spawn"):
        logging.getLogger(f"torch.{name}").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="forkserver" if _forks() else "spawn",
        signals_to_handle=",".join(["SIGINT", "SIGHUP", "SIGQUIT", *(one.name for one in SIGNALS)]),
    )
    try:
        elastic_launch(config, as_prepared)(list(arguments))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            print(f"rank {rank} was ended by signal {-failure.exitcode}", file=sys.stderr)
        return failure.exitcode if failure.exitcode > 0 else 1
    except SignalException as error:
        if error.sigval in SIGNALS:
            return TRY_AGAIN  # every command goes on when it is run again
        return 128 + error.sigval  # as a shell says it
    return 0


def _forks() -> bool:
    """Whether ranks can be forked: what the libraries of GPUs begin does not survive that, nor what macOS's own do."""
    return sys.platform == "linux" and not any(os.path.exists(driver) for driver in ("/dev/nvidiactl", "/dev/kfd"))


def _set_threads(processes: int) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))


def check_gpus(processes: int) -> None:
    """Makes sure that each of some ranks on this machine has a GPU of its own, where it has any.

    Raises:
        UserError: more ranks than GPUs.
    """
    import torch

    gpus = torch.cuda.device_count()
    if gpus and processes > gpus:
        raise UserError(
            "the number of processes",
            f"is {processes} on a machine with {gpus} GPU(s), and each takes one of its own",
            f"Start {gpus} (-p {gpus}, --nproc_per_node {gpus}), or set CUDA_VISIBLE_DEVICES='' to use CPUs.",
        )


def default_processes() -> int:
    """One process per GPU, or one where there is none."""
    import torch  # slow to import, and the command line answers --help without it

    return max(1, torch.cuda.device_count())
