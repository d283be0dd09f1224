"""How this process finds the other ranks that a launcher has started."""

import os
import shlex
import socket
import sys
from datetime import timedelta
from functools import cache
from ipaddress import ip_address
from itertools import count
from typing import Any

import torch.distributed as torch_dist

from ...data.debugging import is_debugged
from ...data.errors import UserError
from ..slurm.meeting import met_at
from ..slurm.step import STEP
from .environment import of_machine
from .launch import store_file

_joined = count()
_TIMEOUT, NO_TIMEOUT = timedelta(minutes=30), timedelta(days=30)


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


def join(backend: str) -> None:
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
    return NO_TIMEOUT if is_debugged() else _TIMEOUT


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
