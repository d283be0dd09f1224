"""A process that is not foundrank's own, as a notebook's is: what a job sets for the whole of it is taken back."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pyarrow as pa
import torch

from ..console import silenced_libraries


@contextmanager
def process_kept() -> Iterator[None]:
    """Within it a job may set what it needs; at its end the process is as before.

    That is: environment, warnings and loggers, what tells of exceptions, the interpreter's switch interval, which CPUs each thread runs on, Arrow's
    memory pool, PyTorch's threads, random numbers, determinism and current GPU. Other threads see what is set meanwhile.
    """
    environment, interval, pool = dict(os.environ), sys.getswitchinterval(), pa.default_memory_pool()
    excepthook = sys.excepthook  # a process group has one of its own
    cpus = _cpus_of_threads()
    threads, random = torch.get_num_threads(), torch.get_rng_state()
    determined = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    gpu, of_gpus = None, []
    if torch.cuda.is_initialized():
        gpu, of_gpus = torch.cuda.current_device(), torch.cuda.get_rng_state_all()
    try:
        with silenced_libraries():
            yield
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        sys.setswitchinterval(interval)
        sys.excepthook = excepthook
        pa.set_memory_pool(pool)
        for thread in _cpus_of_threads():
            with suppress(OSError):  # one that has just ended
                os.sched_setaffinity(thread, cpus.get(thread, cpus[os.getpid()]))
        torch.set_num_threads(threads)
        torch.set_rng_state(random)
        torch.use_deterministic_algorithms(determined, warn_only=warned_only)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        if gpu is not None:
            torch.cuda.set_device(gpu)
            torch.cuda.set_rng_state_all(of_gpus)


def _cpus_of_threads() -> dict[int, set[int]]:
    """Thread -> the CPUs it may run on; empty where the system cannot tell."""
    cpus = {}
    for thread in map(int, os.listdir("/proc/self/task")) if hasattr(os, "sched_getaffinity") else ():
        with suppress(OSError):  # one that has just ended
            cpus[thread] = os.sched_getaffinity(thread)
    return cpus
