"""Threads and cores for each rank that shares a machine's CPUs with others."""

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from ...data.machine.limits import cpus
from .environment import of_machine

if TYPE_CHECKING:
    import torch


def set_threads(processes: int) -> None:
    """Divides the machine's CPUs among the threads of its ranks, where OMP_NUM_THREADS says nothing."""
    if not os.environ.get("OMP_NUM_THREADS", "")[:1].isdigit():  # else each rank would take all cores
        os.environ["OMP_NUM_THREADS"] = str(max(1, cpus() // processes))


def keep_to_own_cores(device: "torch.device") -> None:
    """Divides the CPUs that this process may use among the ranks of its machine, as evenly as whole ones can be.

    A rank's threads otherwise take turns on the cores of others: the reader of one holds up the step of another, for which
    all then wait. Nothing is done on a GPU, for one rank alone, for more ranks than CPUs, where the system cannot do it, and
    where something has given this rank CPUs other than those of the process that started it.
    """
    number, ranks = of_machine()
    if device.type != "cpu" or ranks == 1 or not hasattr(os, "sched_setaffinity"):
        return
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < ranks or usable != sorted(os.sched_getaffinity(os.getppid())):
        return
    own = usable[number * len(usable) // ranks : (number + 1) * len(usable) // ranks]
    for thread in os.listdir("/proc/self/task"):  # those that libraries have started; later ones inherit it
        with suppress(OSError):  # one that has just ended, or a sandbox that forbids it
            os.sched_setaffinity(int(thread), own)
