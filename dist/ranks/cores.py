"""Cores of its own for each rank that shares a machine's CPUs with others."""

import os
from contextlib import suppress

import torch

from .environment import of_machine


def keep_to_own_cores(device: torch.device) -> None:
    """Divides the CPUs that this process may use among the ranks of its machine, as evenly as whole ones can be.

    A rank's threads otherwise take turns on the cores of others: the reader of one holds up the step of another, for which
    all then wait. Nothing is done on a GPU, for one rank alone, for more ranks than CPUs, where the system cannot do it, and
    where something has given this rank CPUs other than those of the process that started it.
    """
    number, ranks = of_machine()
    if device.type != "cpu" or ranks == 1 or not hasattr(os, "sched_setaffinity"):
        return
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < ranks or cpus != sorted(os.sched_getaffinity(os.getppid())):
        return
    own = cpus[number * len(cpus) // ranks : (number + 1) * len(cpus) // ranks]
    for thread in os.listdir("/proc/self/task"):  # those that libraries have started; later ones inherit it
        with suppress(OSError):  # one that has just ended, or a sandbox that forbids it
            os.sched_setaffinity(int(thread), own)
