"""Pairs of ranks meet once each, and the rank that is slow with everybody is the one named."""

from itertools import combinations

import pytest

from foundrank.dist.capacity.links import Link, better, rates_of, rounds, slowest


@pytest.mark.parametrize("ranks", [2, 3, 4, 7, 16, 33])
def test_each_pair_meets_once_and_no_rank_is_in_two_pairs_of_a_round(ranks):
    found = rounds(ranks, 100)
    assert sorted(pair for pairs in found for pair in pairs) == list(combinations(range(ranks), 2))
    for pairs in found:
        assert len({rank for pair in pairs for rank in pair}) == 2 * len(pairs) == 2 * (ranks // 2)


def test_of_many_ranks_each_meets_so_many_others():
    found = rounds(200, 31)
    assert len(found) == 31
    assert len({pair for pairs in found for pair in pairs}) == 31 * 100


def links(ranks: int, rate_of) -> list[Link]:
    return [Link(one, other, 0.1, rate_of(one, other)) for one, other in combinations(range(ranks), 2)]


def test_a_rank_that_is_slow_with_all_is_named_and_those_who_wait_for_it_are_not():
    hosts = [f"n{rank}" for rank in range(4)]
    (slow,) = slowest(links(4, lambda one, other: 0.9 if 3 in (one, other) else 9.8), hosts)
    assert (slow.rank, slow.gb_s, slow.others_gb_s, slow.between) == (3, 0.9, 9.8, True)
    two = slowest(
        links(6, lambda one, other: min({1: 2.0, 4: 1.0}.get(rank, 10.0) for rank in (one, other))), [*hosts, "x", "y"]
    )
    assert [slow.rank for slow in two] == [4, 1]


def test_links_within_hosts_and_between_them_are_compared_apart():
    hosts = ["a", "a", "b", "b", "c", "c"]

    def rate(one: int, other: int) -> float:
        return 100.0 if hosts[one] == hosts[other] else 1.0 if "c" in (hosts[one], hosts[other]) else 10.0

    assert {slow.rank for slow in slowest(links(6, rate), hosts)} == {4, 5}
    assert rates_of(links(6, rate), hosts) == (100.0, 1.0)
    assert not slowest(links(6, lambda one, other: 100.0 if hosts[one] == hosts[other] else 10.0), hosts)


def test_of_two_ranks_none_is_named_nor_one_link_that_is_slow():
    assert not slowest([Link(0, 1, 9.0, 0.001)], ["a", "b"])
    assert not slowest(links(4, lambda one, other: 0.1 if (one, other) == (0, 1) else 9.0), list("abcd"))
    assert not slowest(links(4, lambda one, other: 5.0 + one + other), list("abcd"))


def test_of_two_measurements_the_better_numbers_count():
    assert better(Link(0, 1, 2.0, 5.0), Link(0, 1, 1.0, 4.0)) == Link(0, 1, 1.0, 5.0)
