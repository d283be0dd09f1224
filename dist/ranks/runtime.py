"""The process group: who we are among R ranks, and on which device."""

import ctypes
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from ipaddress import ip_address
from itertools import count
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as torch_dist

from ...data.debugging import is_debugged
from ...data.errors import UserError
from ...data.machine.limits import cpus
from ..slurm.meeting import met_at
from ..slurm.step import STEP
from .environment import launched, of_machine
from .launch import check_gpus, store_file

_T = TypeVar("_T")
_joined = count()
_TIMEOUT, _NO_TIMEOUT = timedelta(minutes=30), timedelta(days=30)
_MALLOC_OPTIONS = {  # malloc.h
    -1: 2**31 - 1,  # bytes free at the end of the heap that are given back
    -2: 64 * 2**20,  # bytes asked for at once
    -3: 32 * 2**20,  # bytes of a block that is kept out of the heap
    -8: 1,  # heaps: what one thread frees another can use
}


@dataclass(frozen=True)
class Runtime:
    """One rank of ``world_size``, on ``device``; ``group`` is the one its collectives use, None for that of all work."""

    rank: int
    world_size: int
    device: torch.device
    group: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the one that writes and prints."""
        return self.rank == 0

    def apart(self) -> "Runtime":
        """The same rank with a group of its own on the hosts, for collectives beside the others. A collective itself."""
        return replace(self, group=torch_dist.new_group(backend="gloo"))

    def on_main(self, work: Callable[[], _T]) -> _T:
        """Rank 0's result of ``work``, on every rank. If it fails there, every rank raises the same UserError, or a RuntimeError."""
        outcome: list[Any] = [None]
        failure: Exception | None = None
        if self.is_main:
            try:
                outcome = [(work(), None)]
            except Exception as error:
                failure = error
                outcome = [(None, error if isinstance(error, UserError) else repr(error))]
        if self.world_size > 1:
            torch_dist.broadcast_object_list(outcome, src=0, group=self.group)
        if failure is not None:
            raise failure
        result, told = outcome[0]
        if told is not None:
            raise told if isinstance(told, UserError) else RuntimeError(f"rank 0 failed: {told}")
        return result

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over ranks, on every rank."""
        values = values.clone()
        if self.world_size > 1:
            torch_dist.all_reduce(values, group=self.group)
        return values

    def least(self, values: torch.Tensor) -> torch.Tensor:
        """The smallest over ranks, on every rank."""
        values = values.clone()
        if self.world_size > 1:
            torch_dist.all_reduce(values, torch_dist.ReduceOp.MIN, self.group)
        return values

    def gather(self, value: _T) -> list[_T]:
        """Every rank's value, in rank order, on rank 0; an empty list elsewhere."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size if self.is_main else []
        torch_dist.gather_object(value, values if self.is_main else None, dst=0, group=self.group)
        return values

    def gather_all(self, value: _T) -> list[_T]:
        """Every rank's value, in rank order, on every rank."""
        values: list[Any] = [value] * self.world_size
        if self.world_size > 1:
            torch_dist.all_gather_object(values, value, self.group)
        return values

    def exchange(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Gives one array to each rank, and gets one from each: ``[N]``, of any lengths, of one dtype of 64 bits. On the hosts."""
        if self.world_size == 1:
            return list(values)
        sizes = [len(array) for array in values]
        incoming = torch.empty(self.world_size, dtype=torch.int64)
        torch_dist.all_to_all_single(incoming, torch.tensor(sizes), group=self.group)
        sent, coming = torch.from_numpy(np.concatenate(values).view(np.int64)), incoming.tolist()
        received = torch.empty(sum(coming), dtype=torch.int64)
        torch_dist.all_to_all_single(received, sent, coming, sizes, self.group)
        return np.split(received.numpy().view(values[0].dtype), np.cumsum(coming)[:-1])

    def barrier(self) -> None:
        """Waits for every rank."""
        if self.world_size > 1:
            torch_dist.barrier(self.group)


@contextmanager
def threads_kept() -> Iterator[None]:
    """Gives the process its threads back, after work that used one alone."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _is_loopback(host: str) -> bool:
    """Whether gloo would listen for this machine alone, were ``host`` its name."""
    try:
        first = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        return True
    return ip_address(first[4][0]).is_loopback


def _check_own_name() -> None:
    """Makes sure that ranks on other machines can reach this one: gloo listens at the address of the machine's own name.

    On the machine of rank 0 nothing is said: seen from there, all ranks may be on one machine.

    Raises:
        UserError: it is a loopback address, and rank 0 is on another machine.
    """
    name, environment = socket.gethostname(), os.environ
    if "GLOO_SOCKET_IFNAME" in environment or (environment.get("GROUP_WORLD_SIZE") or "1") == "1":
        return
    if _is_loopback(name) and not _is_loopback(environment.get("MASTER_ADDR", name)):
        raise UserError(
            f"host '{name}'",
            "has a name that leads to itself alone (127.0.1.1, say), where ranks on other machines cannot reach it",
            "Set GLOO_SOCKET_IFNAME on every machine to the network interface between them (see `ip route`), "
            "e.g. --env GLOO_SOCKET_IFNAME=eth0, or mend /etc/hosts.",
        )


def _join(backend: str) -> None:
    """Joins the process group that a launcher describes.

    A script may do so several times, one job after another: what an earlier group left in the ranks' store must not be
    taken for the next one's, so each has a prefix of its own.
    """
    store, rank, ranks = _store_of_ranks()
    store = torch_dist.PrefixStore(f"job {next(_joined)}", store)  # type: ignore[attr-defined]
    torch_dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=_timeout())
    if STEP in os.environ:
        _check_same_command(ranks)


def _check_same_command(ranks: int) -> None:
    """Makes sure that all ranks were started for the same: tasks of a step may each have a command of its own.

    Raises:
        UserError: on all of them, where one has another.
    """
    commands: list[Any] = [None] * ranks
    torch_dist.all_gather_object(commands, sys.argv[1:])
    for rank, command in enumerate(commands):
        if command != commands[0]:
            raise UserError(
                f"task {rank} of Slurm's step {os.environ[STEP]}",
                f"runs '{shlex.join(command)}', and task 0 '{shlex.join(commands[0])}', which cannot be one job",
                "Start each as a step of its own with one task: srun -n 1 --exact ... &",
            )


def _timeout() -> timedelta:
    """How long a rank waits for another, which may stand at somebody's breakpoint."""
    return _NO_TIMEOUT if is_debugged() else _TIMEOUT


@cache
def _store_of_ranks() -> tuple[Any, int, int]:
    """Where the ranks meet, and which of how many this one is; kept, for others may still need what rank 0 holds.

    torchrun's agents hand the same key-value store to every generation of ranks, and in it the addresses of ranks that are
    no more: one that reads such an address before its new owner has written connects to nothing (torch 2.13). A prefix for
    each restart keeps generations apart where one agent counts the restarts. Several count differently, so they must not share.

    Raises:
        UserError: other machines cannot reach this one, or several agents share a store and are to restart ranks.
    """
    environment = os.environ
    if (file := store_file() or met_at()) is not None:
        rank, ranks = of_machine()
        return torch_dist.FileStore(file, ranks), rank, ranks  # type: ignore[attr-defined]
    _check_own_name()
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        return next(torch_dist.rendezvous("env://", timeout=_timeout()))  # type: ignore[attr-defined]
    if environment["GROUP_WORLD_SIZE"] != "1" and environment["TORCHELASTIC_MAX_RESTARTS"] != "0":
        raise UserError(
            "torchrun --max-restarts",
            f"is {environment['TORCHELASTIC_MAX_RESTARTS']} on several nodes that share a store, where restarts get stuck",
            "Set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in torchrun's environment on every node.",
        )
    rank, world_size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    store = torch_dist.TCPStore(  # type: ignore[attr-defined]
        environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), world_size, is_master=False, timeout=_timeout()
    )
    of_restart = torch_dist.PrefixStore(f"restart {environment['TORCHELASTIC_RESTART_COUNT']}", store)  # type: ignore[attr-defined]
    return of_restart, rank, world_size


def _keep_freed_memory() -> None:
    """Has glibc keep what is freed for what is asked for next.

    It otherwise gives the blocks of every batch back to the system, which has to zero them again: on virtual machines, whose
    page faults are slow, a tenth of scoring.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        for option, size in _MALLOC_OPTIONS.items():
            set_option(option, size)


def _add_up_in_one_order() -> None:
    """Has GPUs give the same sums every time, FBGEMM's of gradients included; what cannot is told once and goes on."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _stay_on_this_machine() -> None:
    """Has gloo and NCCL listen at the loopback interface alone: ranks of one machine need no other."""
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    if loopback in (name for _, name in socket.if_nameindex()):
        os.environ.update({"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback})


@contextmanager
def start(own_process: bool = True) -> Iterator[Runtime]:
    """Joins the process group a launcher describes, or makes one of a single process; leaves it at the end.

    NCCL with a GPU per rank where there is one, else gloo.

    Args:
        own_process: whether this process is the job's alone, as a command's is, so that the C library's memory is set up
            for it. Nothing can take that back.

    Raises:
        UserError: fewer GPUs than ranks, a launcher that would get stuck, or a process group is there already.
    """
    if torch_dist.is_initialized():
        raise UserError(
            "torch.distributed",
            "has a process group already, and foundrank makes one of its own",
            "Call torch.distributed.destroy_process_group() first.",
        )
    # Arrow's own allocator asks for huge pages and gives them back at once: zeroing them took a third of reading.
    pa.set_memory_pool(pa.system_memory_pool())
    if own_process:
        _keep_freed_memory()
        if torch.get_num_threads() > cpus():  # torch looks at the machine, not at a container's share of it
            torch.set_num_threads(cpus())
    cuda = torch.cuda.is_available()
    local, ranks = of_machine()
    check_gpus(ranks)
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
        _add_up_in_one_order()
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    if not launched() or os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
        _stay_on_this_machine()
    if launched():
        _join(backend)
    else:
        # TorchRec reads these even when it is alone.
        os.environ.update({"LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"})
        torch_dist.init_process_group(backend, store=torch_dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    failed = True
    try:
        yield Runtime(torch_dist.get_rank(), torch_dist.get_world_size(), device)
        failed = False
    finally:
        # A failed rank keeps its connections until it has told why: the others fail when they close.
        if not (failed and launched()):
            torch_dist.destroy_process_group()


@contextmanager
def alone() -> Iterator[Runtime]:
    """As `start` of a process that is not foundrank's own, with a group of this process alone, whatever has launched it.

    It changes the environment: `process_kept` gives it back.
    """
    for name in ("RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)
    with start(own_process=False) as runtime:
        yield runtime
