"""What the network between the ranks of a job gives: ``foundrank train --check --network``."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.distributed as torch_dist

from ..ranks.runtime import Runtime
from .links import Link, better, rounds, slowest

_SMALLEST = 1 << 16
_SIZES = (_SMALLEST, 1 << 20, 1 << 23, 1 << 26)
"""Bytes that a rank sends: from where the time to begin counts to where the rate does."""
_REPEATS = 9
_AT_ONCE = 0.25
"""Seconds that one exchange may take, by what a smaller one took; larger ones are left out, so that slow networks take seconds, too."""
_ALL_PAIRS = 4.0
"""Seconds for the links of all pairs, about."""
_ROUNDS = 31
"""Rounds of pairs at most: each pair of 32 ranks. Of more ranks each is measured with so many others."""


@dataclass(frozen=True)
class Network:
    """What was measured; medians over repeats, a repeat taking as long as on its slowest rank; of links that were measured twice the better ones.

    Attributes:
        hosts: ``[R]`` where each rank is.
        latency_ms: of an all-reduce of one number.
        all_to_all: bytes that each rank sends to all others together -> milliseconds.
        links: of pairs of ranks; all of them, up to 32 ranks.
    """

    hosts: list[str]
    latency_ms: float
    all_to_all: dict[int, float]
    links: list[Link]

    @property
    def gb_s(self) -> float:
        """What each rank sends in an all-to-all of the largest size, 10^9 bytes a second."""
        size = max(self.all_to_all)
        return size / self.all_to_all[size] / 1e6


def measure(runtime: Runtime) -> Network:
    """Measures latency, all-to-all exchanges and links of pairs, on the device that the ranks train on. A collective.

    Takes seconds, however slow the network: larger sizes, and repeats, are left out where smaller ones take long.

    Args:
        runtime: of at least two ranks.
    """
    hosts = runtime.gather_all(socket.gethostname())
    one = torch.ones(1, device=runtime.device)
    latency = _on_all(lambda: torch_dist.all_reduce(one), runtime)
    all_to_all: dict[int, float] = {}
    for size in _SIZES:
        if all_to_all and size * max(all_to_all.values()) / max(all_to_all) > 1e3 * _AT_ONCE:
            break
        part = max(1, size // (runtime.world_size - 1))
        sent = torch.ones(part * runtime.world_size, dtype=torch.uint8, device=runtime.device)
        came = torch.empty_like(sent)
        took = _on_all(partial(torch_dist.all_to_all_single, came, sent), runtime)
        all_to_all[part * (runtime.world_size - 1)] = took
    links = _all_links(runtime)
    if slowest(links, hosts):  # what was slow by chance, on busy machines, is not so twice
        links = [better(*twice) for twice in zip(links, _all_links(runtime), strict=True)]
    return Network(hosts, latency, all_to_all, links)


def _all_links(runtime: Runtime) -> list[Link]:
    """By ranks, on every rank."""
    links: list[Link] = []
    planned = rounds(runtime.world_size, _ROUNDS)
    for pairs in planned:
        links += _links(pairs, _ALL_PAIRS / len(planned), runtime)
    return sorted(links, key=lambda link: (link.one, link.other))


def _on_all(work: Callable[[], Any], runtime: Runtime) -> float:
    """Milliseconds that collective work takes; the first time, which opens connections, does not count."""
    _seconds(work, runtime)
    first = max(runtime.gather_all(_seconds(work, runtime)))
    repeats = max(1, min(_REPEATS, int(4 * _AT_ONCE / max(first, 1e-9))))
    times = np.array(runtime.gather_all([_seconds(work, runtime) for _ in range(repeats)]))
    return 1e3 * float(np.median(times.max(0)))


def _seconds(work: Callable[[], Any], runtime: Runtime) -> float:
    """Seconds that work takes once all ranks are ready for it."""
    runtime.barrier()
    return _alone(work, runtime)


def _alone(work: Callable[[], Any], runtime: Runtime) -> float:
    _finish(runtime)
    begun = time.perf_counter()
    work()
    _finish(runtime)
    return time.perf_counter() - begun


def _finish(runtime: Runtime) -> None:
    if runtime.device.type == "cuda":
        torch.cuda.synchronize(runtime.device)


def _links(pairs: list[tuple[int, int]], seconds: float, runtime: Runtime) -> list[Link]:
    """The links of pairs that are measured at the same time, on every rank."""
    mine = next((pair for pair in pairs if runtime.rank in pair), None)
    runtime.barrier()
    found = _link(*mine, seconds, runtime) if mine is not None else None
    seen = [of_rank for of_rank in runtime.gather_all(found) if of_rank is not None]
    return [
        Link(one, other, max(of.ms for of in seen if of.one == one), min(of.gb_s for of in seen if of.one == one))
        for one, other in pairs
    ]


def _link(one: int, other: int, seconds: float, runtime: Runtime) -> Link:
    """The link of a pair, as this end of it sees it."""
    partner, number = (other if runtime.rank == one else one), torch.zeros(1, device=runtime.device)

    def there_and_back() -> None:
        calls = [torch_dist.send, torch_dist.recv]
        for call in calls if runtime.rank == one else calls[::-1]:
            call(number, partner)

    def exchange(size: int) -> Callable[[], None]:
        sent = torch.ones(size, dtype=torch.uint8, device=runtime.device)
        came = torch.empty_like(sent)

        def both_ways() -> None:
            ways = [
                torch_dist.P2POp(torch_dist.isend, sent, partner),
                torch_dist.P2POp(torch_dist.irecv, came, partner),
            ]
            for request in torch_dist.batch_isend_irecv(ways):
                request.wait()

        return both_ways

    smallest = exchange(_SMALLEST)
    smallest()  # the first time, which opens a connection, does not count
    number.fill_(_alone(smallest, runtime))
    if runtime.rank == one:  # both ends have to choose the same size and repeats
        torch_dist.send(number, partner)
    else:
        torch_dist.recv(number, partner)
    a_byte = max(float(number), 1e-9) / _SMALLEST
    size = max((of for of in _SIZES if of * a_byte <= seconds / _REPEATS), default=_SMALLEST)
    repeats = max(1, min(_REPEATS, int(seconds / (size * a_byte))))

    def repeated(work: Callable[[], None]) -> float:
        work()
        return median(_alone(work, runtime) for _ in range(repeats))

    return Link(one, other, 1e3 * repeated(there_and_back) / 2, size / repeated(exchange(size)) / 1e9)
