"""What the ranks of a job measure of the network between them."""

import time
from itertools import combinations

import pytest

from foundrank.dist.capacity import network
from foundrank.dist.capacity.links import slowest
from foundrank.dist.capacity.network import Network, measure
from foundrank.dist.ranks.runtime import Runtime

from .harness import run_ranks


@pytest.mark.parametrize("ranks", [2, 3])
def test_every_rank_knows_latency_exchanges_and_all_links(ranks):
    of_ranks = run_ranks(measure, ranks, deadline=120)
    for found in of_ranks:
        assert found == of_ranks[0]
        assert len(found.hosts) == ranks
        assert 0 < found.latency_ms < 1e4
        assert len(found.all_to_all) >= 1
        assert all(size % (ranks - 1) == 0 and ms > 0 for size, ms in found.all_to_all.items())
        assert list(found.all_to_all) == sorted(found.all_to_all)
        assert found.gb_s > 0
        assert [(link.one, link.other) for link in found.links] == list(combinations(range(ranks), 2))
        assert all(link.ms > 0 and link.gb_s > 0 for link in found.links)


def with_a_slow_rank(runtime: Runtime) -> Network:
    """Rank 1 takes a moment before it sends; once a first exchange has been slow, sizes stay small."""
    send, exchange = network.torch_dist.batch_isend_irecv, network.torch_dist.all_to_all_single

    def late(work):
        def begin(*arguments):
            time.sleep(0.3)
            return work(*arguments)

        return begin

    if runtime.rank == 1:
        network.torch_dist.batch_isend_irecv = late(send)
        network.torch_dist.all_to_all_single = late(exchange)
    return measure(runtime)


def test_a_rank_that_is_slow_is_named():
    for found in run_ranks(with_a_slow_rank, 4, deadline=120):
        assert [slow.rank for slow in slowest(found.links, found.hosts)] == [1]
        assert len(found.all_to_all) == 1
