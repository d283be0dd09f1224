"""The process group: who we are among R ranks, and on which device."""

import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as torch_dist

from ...data.errors import UserError
from ...data.machine.limits import cpus
from ...data.machine.memory import ARENA_MAX, set_malloc
from .environment import launched, of_machine
from .joining import NO_TIMEOUT, join
from .launch import check_gpus

_T = TypeVar("_T")
_MALLOC_OPTIONS = {  # malloc.h
    -1: 2**31 - 1,  # bytes free at the end of the heap that are given back
    -2: 64 * 2**20,  # bytes asked for at once
    -3: 32 * 2**20,  # bytes of a block that is kept out of the heap
    ARENA_MAX: 1,  # what one thread frees another can use
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

    def apart(self, timeout: timedelta | None = None) -> "Runtime":
        """The same rank with a group of its own on the hosts, for collectives beside the others. A collective itself.

        Args:
            timeout: how long a rank waits for another, where that is not as in other work.
        """
        return replace(self, group=torch_dist.new_group(backend="gloo", timeout=timeout))

    def leave(self) -> None:
        """Gives up the group that `apart` has made, whose threads would go on to the end of the process. A collective itself."""
        if self.group is not None:
            torch_dist.destroy_process_group(self.group)

    def on_main(self, work: Callable[[], _T]) -> _T:
        """Rank 0's result of ``work``, on every rank. If it fails there, every rank raises the same UserError, or a RuntimeError."""
        outcome: list[Any] = [None]
        failure: Exception | None = None
        if self.is_main:
            outcome[0], failure = _outcome(work)
        if self.world_size > 1:
            torch_dist.broadcast_object_list(outcome, src=0, group=self.group)
        if failure is not None:
            raise failure
        return _result(0, *outcome[0])

    def on_each(self, work: Callable[[], _T]) -> list[_T]:
        """Every rank's result of its ``work``, in rank order, on every rank. If one fails, every rank raises an error, as of `on_main`."""
        outcome, failure = _outcome(work)
        everyone = self.gather_all(outcome)
        if failure is not None:
            raise failure
        return [_result(rank, *of_rank) for rank, of_rank in enumerate(everyone)]

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
        """Gives one array to each rank, and gets one from each: ``[N]`` of any lengths, of one dtype. On the hosts, at once."""
        if self.world_size == 1:
            return list(values)
        leaving = torch.tensor([array.nbytes for array in values])
        coming = torch.empty_like(leaving)
        torch_dist.all_to_all_single(coming, leaving, group=self.group)
        sent = torch.from_numpy(np.concatenate(values).view(np.uint8))
        received = torch.empty(int(coming.sum()), dtype=torch.uint8)
        torch_dist.all_to_all_single(received, sent, coming.tolist(), leaving.tolist(), self.group)
        return [part.numpy().view(values[0].dtype) for part in received.split(coming.tolist())]

    def barrier(self) -> None:
        """Waits for every rank."""
        if self.world_size > 1:
            torch_dist.barrier(self.group)


def _outcome(work: Callable[[], Any]) -> tuple[tuple[Any, UserError | str | None], Exception | None]:
    """What other ranks are told of some work: its result, or what is wrong; and the error itself."""
    try:
        return (work(), None), None
    except Exception as error:
        return (None, error if isinstance(error, UserError) else repr(error)), error


def _result(rank: int, result: Any, told: UserError | str | None) -> Any:
    """What a rank's work has given; raises what it has failed with."""
    if told is not None:
        raise told if isinstance(told, UserError) else RuntimeError(f"rank {rank} failed: {told}")
    return result


ALONE = Runtime(0, 1, torch.device("cpu"))
"""A process that has started no ranks, or not yet."""


@contextmanager
def patiently(runtime: Runtime) -> Iterator[Runtime]:
    """The ranks, of which each waits for the others as long as it takes: what one of them reads alone may take hours."""
    apart = runtime.apart(NO_TIMEOUT) if runtime.world_size > 1 else runtime
    yield apart
    apart.leave()


@contextmanager
def threads_kept() -> Iterator[None]:
    """Gives the process its threads back, after work that used one alone."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _keep_freed_memory() -> None:
    """Has glibc keep what is freed for what is asked for next.

    It otherwise gives the blocks of every batch back to the system, which has to zero them again: on virtual machines, whose
    page faults are slow, a tenth of scoring.
    """
    set_malloc(_MALLOC_OPTIONS)


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
        join(backend)
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
