"""Tells what the network between the ranks of a training gives, and what that means for a step."""

import math
from dataclasses import dataclass

from ...data.errors import UserError
from ..lease.lease import Claim
from ..logs.records import result, warning
from ..sharding.planner import Ranks
from .cluster import Cluster
from .footprint import footprint
from .links import Slow, rates_of, slowest
from .network import Network
from .plan import Fit, exchange_ms
from .preflight import Checked

_OF_EACH = 16  # ranks of which each is told in a line of its own


@dataclass(frozen=True)
class NetworkCheck:
    """A training whose network is to be measured.

    Attributes:
        checked: all else.
        ranks: that the job has been started on.
        claim: the run folder, which it does not hold.
    """

    checked: Checked
    ranks: Ranks
    claim: Claim


def check_several(ranks: int, cluster: str | None) -> None:
    """Makes sure that there is a network to measure.

    Raises:
        UserError: one process has none, or the ranks are to be those of a cluster that is only described.
    """
    if cluster is not None:
        what = "describes machines that need not be there, and --network measures those of this job"
        raise UserError("--cluster", what, "Leave one of the two out; with TorchX, add --check False.")
    if ranks < 2:
        what = "measures what is between ranks, and this job is one process"
        raise UserError("--network", what, "Start it as it will train: with -p N, torchrun, srun or TorchX.")


def tell_network(found: Network, of: NetworkCheck) -> None:
    """Tells it on rank 0: latency, exchanges, each rank's links, slow ranks, and a step's exchanges at these rates."""
    hosts, slow = found.hosts, slowest(found.links, found.hosts)
    told = (
        f"{len(hosts)} ranks on {len(set(hosts))} host(s): an all-reduce of one number takes {found.latency_ms:.3g} ms"
    )
    result(told, "network_latency", ms=found.latency_ms, hosts=hosts)
    sizes = ", ".join(f"{size / 1e6:.3g} MB {ms:.3g} ms" for size, ms in found.all_to_all.items())
    exchanges = [{"bytes": size, "ms": ms} for size, ms in found.all_to_all.items()]
    told = f"all-to-all, sent by each rank: {sizes}; {found.gb_s:.3g} GB/s"
    result(told, "network_all_to_all", exchanges=exchanges, gb_s=found.gb_s)
    for rank, host in enumerate(hosts) if len(hosts) <= _OF_EACH else ():
        links = [link for link in found.links if rank in (link.one, link.other)]
        best, worst = (choose(links, key=lambda link: link.gb_s) for choose in (max, min))
        partner = worst.one + worst.other - rank
        told = f"rank {rank} on host {host}: {best.gb_s:.3g} GB/s on its fastest link, {worst.gb_s:.3g} on its slowest, with rank {partner}"
        least, most = min(link.ms for link in links), max(link.ms for link in links)
        result(f"{told}; {least:.3g} to {most:.3g} ms", "network_rank", of_rank=rank, host=host, gb_s=best.gb_s)
    within, between = rates_of(found.links, hosts)
    kinds = [
        f"{rate:.3g} GB/s {where}"
        for rate, where in ((within, "within a host"), (between, "between hosts"))
        if rate == rate
    ]
    links_told = [{"ranks": [link.one, link.other], "ms": link.ms, "gb_s": link.gb_s} for link in found.links]
    result(f"{len(found.links)} links, medians: {', '.join(kinds)}", "network_links", links=links_told)
    for one in slow:
        warning(
            _slow(one, hosts),
            "network_slow",
            of_rank=one.rank,
            host=hosts[one.rank],
            gb_s=one.gb_s,
            others_gb_s=one.others_gb_s,
        )
    _tell_step(found, of, slow)


def _slow(slow: Slow, hosts: list[str]) -> str:
    kind = "to other hosts" if slow.between else "within its host"
    told = f"rank {slow.rank} on host {hosts[slow.rank]} is slow: {slow.gb_s:.3g} GB/s at most {kind}, the others {slow.others_gb_s:.3g}"
    return f"{told}. Every step waits for it: look at its network card, cable and load, or leave the host out"


def _tell_step(found: Network, of: NetworkCheck, slow: list[Slow]) -> None:
    """The exchanges of a step as `foundrank plan` reckons them, at the rates that were measured."""
    ranks, checked = of.ranks, of.checked
    device = "cpu" if ranks.device == "cpu" else "h100"  # for what the exchanges do not depend on
    within, _ = rates_of(found.links, found.hosts)
    several = ranks.count > ranks.per_host
    cluster = Cluster(
        device=device,
        world_size=ranks.count,
        ranks_per_host=ranks.per_host,
        host_memory_gib=ranks.host_bytes * ranks.per_host / 2**30,
        device_memory_gib=None if ranks.device_bytes is None else ranks.device_bytes / 2**30,
        inside_gb_s=found.gb_s if not several or math.isnan(within) else within,
        between_gb_s=found.gb_s if several else None,
    )
    parts = exchange_ms(Fit(cluster, footprint(checked.layout, checked.experiment, cluster.ranks), None))
    together = sum(parts.values())
    told = f"a step's exchanges at these rates, as `foundrank plan` reckons them: {together:.3g} ms"
    told += f" ({', '.join(f'{part} {ms:.3g}' for part, ms in parts.items())})"
    if slow:
        told += f"; at the rate of the other ranks about {together * slow[0].gb_s / slow[0].others_gb_s:.3g}"
    result(told, "network_step", ms=together, parts=parts)
