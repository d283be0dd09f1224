"""Links between pairs of ranks: which pairs are measured at the same time, and which rank is slow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

_SLOW = 0.5
"""Of the others' rate: below it a rank is slow. Links of one kind that are well differ by less, those of a card or cable that is not by more."""
_LEAST = 3
"""Ranks with links of a kind: of two, which have one link between them, it cannot be told which one is slow."""


@dataclass(frozen=True)
class Link:
    """What was measured between two ranks.

    Attributes:
        one: rank.
        other: rank, the larger number.
        ms: milliseconds that a few bytes take from one to the other.
        gb_s: 10^9 bytes a second in each direction, both at the same time.
    """

    one: int
    other: int
    ms: float
    gb_s: float


@dataclass(frozen=True)
class Slow:
    """A rank that is slow with every other one.

    Attributes:
        rank: which.
        gb_s: of its fastest link.
        others_gb_s: the median of the other ranks' fastest ones.
        between: whether these are links between hosts, or within one.
    """

    rank: int
    gb_s: float
    others_gb_s: float
    between: bool


def rounds(ranks: int, most: int) -> list[list[tuple[int, int]]]:
    """Pairs of ranks in rounds, in each of which a rank is in one pair at most; every pair once, where so many rounds suffice.

    Args:
        ranks: R.
        most: rounds; where there would be more, they are taken evenly from all.

    Source: the circle method for tournaments, Kirkman (1847).
    """
    places = ranks + ranks % 2  # the last place is nobody's where the number is odd
    circle, found = list(range(places)), []
    for _ in range(places - 1):
        pairs = [sorted(pair) for pair in zip(circle[: places // 2], reversed(circle[places // 2 :]), strict=True)]
        found.append([(one, other) for one, other in pairs if other < ranks])
        circle = [circle[0], circle[-1], *circle[1:-1]]
    kept = min(most, len(found))
    return [found[at * len(found) // kept] for at in range(kept)]


def better(first: Link, second: Link) -> Link:
    """The better numbers of a link that was measured twice."""
    return replace(first, ms=min(first.ms, second.ms), gb_s=max(first.gb_s, second.gb_s))


def slowest(links: Sequence[Link], hosts: Sequence[str]) -> list[Slow]:
    """Ranks whose fastest link is much slower than those of the others, the slowest first.

    A rank that is slow makes all links with it slow, and so would be every rank by the mean of its links; but the others have fast ones
    as well. Links within a host and between hosts are compared apart.

    Args:
        links: of any pairs.
        hosts: ``[R]`` the host of each rank.
    """
    found: dict[int, Slow] = {}
    for between in (True, False):
        fastest: dict[int, float] = {}
        for link in links:
            if (hosts[link.one] != hosts[link.other]) == between:
                for rank in (link.one, link.other):
                    fastest[rank] = max(fastest.get(rank, 0.0), link.gb_s)
        for rank, rate in fastest.items() if len(fastest) >= _LEAST else ():
            others = median(of for other, of in fastest.items() if other != rank)
            if rate < _SLOW * others and rank not in found:
                found[rank] = Slow(rank, rate, others, between)
    return sorted(found.values(), key=lambda slow: slow.gb_s / slow.others_gb_s)


def rates_of(links: Sequence[Link], hosts: Sequence[str]) -> tuple[float, float]:
    """The medians of rates within hosts and between them; NaN where there is no such link."""
    kinds: tuple[list[float], list[float]] = [], []
    for link in links:
        kinds[hosts[link.one] != hosts[link.other]].append(link.gb_s)
    within, between = (median(kind) if kind else math.nan for kind in kinds)
    return within, between
