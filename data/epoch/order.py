"""The order of an epoch: which rows each rank reads at each step, as a pure function of a seed.

An epoch is a list of *chunks*. A chunk is a handful of *blocks* (row groups or parts of one) picked at random from a
few row groups that were themselves picked at random; its rows are then shuffled together. Chunks do not depend on the number of ranks; they are dealt to the ranks, and every
rank spreads its rows evenly over the same number of steps. Where a run was interrupted is therefore a few integers
(`Position`), and what is left of an epoch can be dealt to any other number of ranks: each row exactly once.

In a domain with a list loss it is lists that are shuffled and dealt. Wherever its rows are cut, between chunks, ranks, steps
and epochs, the cut is moved back to where a list begins; so a step has up to the longest list's rows more or fewer than its share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np

from ..counting.list_marks import ListMarks
from ..events.event_files import EventFiles
from .chunks import Block, Chunk, DomainLists, between_lists, blocks_of, blocks_of_lists, drop

_CHUNKS_PER_DOMAIN = 64
_SMALL_DOMAIN = 4096
_NEAR_ROWS = 2**18  # of all domains, in the row groups that are decoded at one time, if those are not larger
_GOLDEN = 0.618033988749895  # its multiples lie evenly between whole numbers, however many they are


@dataclass(frozen=True)
class Position:
    """How far an epoch has come: for every number of ranks that worked on it, the steps they took.

    A checkpoint holds this and nothing else of the reader.
    """

    epoch: int = 0
    taken: tuple[tuple[int, int], ...] = ()

    def as_dict(self) -> dict:
        """Plain values for JSON."""
        return {"epoch": self.epoch, "taken": [list(t) for t in self.taken]}

    def after(self, ranks: int, steps: int) -> "Position":
        """The position once ``ranks`` ranks have taken ``steps`` more steps."""
        return Position(self.epoch, (*self.taken, (ranks, steps)))

    @classmethod
    def from_dict(cls, plain: Mapping) -> "Position":
        """What `as_dict` made."""
        return cls(plain["epoch"], tuple((ranks, steps) for ranks, steps in plain["taken"]))


@dataclass
class RankOrder:
    """What one rank reads: per domain its chunks in order, spread over ``steps`` steps."""

    chunks: list[list[Chunk]]
    steps: int
    rows: list[int] = field(init=False)

    def __post_init__(self):
        self.rows = [sum(chunk.rows for chunk in chunks) for chunks in self.chunks]

    def taken(self, step: int) -> list[int]:
        """Rows per domain read before step ``step``."""
        even = [rows * step // self.steps if self.steps else 0 for rows in self.rows]
        for domain, cuts in self._cuts.items():
            even[domain] = int(cuts[step])
        return even

    @cached_property
    def _cuts(self) -> dict[int, np.ndarray]:
        """Domain whose lists stay whole -> ``[steps + 1]`` rows read before each step, and by the end."""
        whole = {d: chunks for d, chunks in enumerate(self.chunks) if chunks and chunks[0].lists is not None}
        steps = np.arange(self.steps + 1)
        return {d: between_lists(chunks, self.rows[d] * steps // self.steps) for d, chunks in whole.items()}

    def rest(self, step: int) -> list[list[Chunk]]:
        """Per domain, what is left when ``step`` steps are done."""
        return [drop(chunks, taken) for chunks, taken in zip(self.chunks, self.taken(step), strict=True)]

    def locations(self, step: int) -> list[tuple[int, int, int, int]]:
        """Domain, file, row group and row in it, of each row of a step, in the batch's order."""
        bounds = zip(self.chunks, self.taken(step), self.taken(step + 1), strict=True)
        return [place for chunks, a, b in bounds for chunk in drop(chunks, a, b) for place in chunk.locations()]


def epoch_chunks(
    files: Mapping[int, EventFiles],
    weights: Mapping[int, float],
    seed: int,
    epoch: int,
    shuffle_rows: int,
    lists: Mapping[int, ListMarks] = MappingProxyType({}),
) -> list[list[Chunk]]:
    """The chunks of one training epoch, per domain.

    A domain gives ``weight x its rows`` rows to an epoch. With weight 1 that is each row exactly once; with other weights
    epochs continue one another: every row is read n times before any is read n + 1 times.

    Args:
        files: position of a domain -> its files.
        weights: position of a domain -> its sampling weight.
        seed: of the order.
        epoch: counted from 0.
        shuffle_rows: rows shuffled together, all domains; each domain gets its share.
        lists: position of a domain -> where its lists begin, of the domains whose lists stay whole.
    """
    total = sum(events.rows for events in files.values())
    chunks = []
    for domain, events in files.items():
        wanted = round(events.rows * weights[domain])
        # Small domains are shuffled whole; large ones begin sooner when a chunk is a small part of them.
        window = min(shuffle_rows * events.rows // max(total, 1), max(events.rows // _CHUNKS_PER_DOMAIN, _SMALL_DOMAIN))
        near = _NEAR_ROWS * events.rows // max(total, 1)
        whole = DomainLists(events, lists[domain]) if domain in lists else None
        chunks.append(_slice_passes(domain, events, wanted, seed, epoch, window, near, whole))
    return chunks


def ordered_chunks(files: Mapping[int, EventFiles]) -> list[list[Chunk]]:
    """Every row once, in file order, for evaluation."""
    return [[Chunk(d, (), (block,), 0, block.rows) for block in blocks_of(events)] for d, events in files.items()]


def deal(chunks: list[list[Chunk]], ranks: int, batch_size: int) -> list[RankOrder]:
    """Deals chunks to ranks: each domain's rows evenly, cutting a chunk where it must.

    All ranks get the same number of steps, none more than ``batch_size + domains`` rows a step, and, for every domain whose
    lists stay whole, one less than those of its longest list more.
    """
    shares: list[list[list[Chunk]]] = [[] for _ in range(ranks)]
    for position, domain_chunks in enumerate(chunks):
        rows = sum(chunk.rows for chunk in domain_chunks)
        # The remainder goes to other ranks for other domains, so that no rank gets it always.
        bounds = [(rows * r + (position * ranks // max(len(chunks), 1))) // ranks for r in range(ranks)] + [rows]
        bounds[0] = 0
        if domain_chunks and domain_chunks[0].lists is not None:
            bounds = between_lists(domain_chunks, np.array(bounds)).tolist()
        for rank in range(ranks):
            shares[rank].append(drop(domain_chunks, bounds[rank], bounds[rank + 1]))
    most = max(sum(chunk.rows for part in share for chunk in part) for share in shares)
    steps = -(-most // batch_size)
    return [RankOrder(share, steps) for share in shares]


def resume(
    chunks: list[list[Chunk]], position: Position, ranks: int, batch_size: int
) -> tuple[list[RankOrder], int, Position]:
    """Deals what is left of an epoch.

    On the number of ranks that worked last, the order is the one they had, and begins where they stopped: the same batches
    as if nothing had happened. On another number, the rows left are dealt anew.

    Returns:
        Every rank's order, the step to begin with, and the position at step 0 of these orders.
    """
    taken = position.taken
    first = 0
    if taken and taken[-1][0] == ranks:
        *earlier, (_, first) = taken
        taken = tuple(earlier)
    for past_ranks, steps in taken:
        rests = [order.rest(min(steps, order.steps)) for order in deal(chunks, past_ranks, batch_size)]
        chunks = [[chunk for rest in rests for chunk in rest[domain]] for domain in range(len(chunks))]
    return deal(chunks, ranks, batch_size), first, Position(position.epoch, taken)


def rows_in(chunks: list[list[Chunk]]) -> int:
    """Rows of all domains' chunks."""
    return sum(chunk.rows for of_domain in chunks for chunk in of_domain)


def _slice_passes(
    domain: int,
    events: EventFiles,
    wanted: int,
    seed: int,
    epoch: int,
    window: int,
    near: int,
    lists: DomainLists | None,
) -> list[Chunk]:
    """Rows ``epoch * wanted`` to ``(epoch + 1) * wanted`` of the endless sequence of passes over a domain."""
    at, end = epoch * wanted, (epoch + 1) * wanted
    out: list[Chunk] = []
    while at < end and events.rows:
        number, skipped = divmod(at, events.rows)
        chunks = _one_pass(domain, events, seed, number, window, near, lists)
        last = min(events.rows, skipped + end - at)
        at += last - skipped
        if lists is not None:
            skipped, last = between_lists(chunks, np.array([skipped, last])).tolist()
        out += drop(chunks, skipped, last)
    return out


def _one_pass(
    domain: int, events: EventFiles, seed: int, number: int, window: int, near: int, lists: DomainLists | None
) -> list[Chunk]:
    units = [(block,) for block in blocks_of(events)] if lists is None else blocks_of_lists(events, lists)
    random = np.random.default_rng((seed, domain, number))
    order = np.lexsort((random.random(len(units)), _neighbourhoods(units, random, near, domain * _GOLDEN % 1)))
    chunks: list[Chunk] = []
    pending: list[Block] = []
    held = 0
    for at in order:
        pending += units[at]
        held += sum(block.rows for block in units[at])
        if held >= window:
            chunks.append(Chunk(domain, (seed, domain, number, len(chunks)), tuple(pending), 0, held, lists))
            pending, held = [], 0
    if pending:
        chunks.append(Chunk(domain, (seed, domain, number, len(chunks)), tuple(pending), 0, held, lists))
    return chunks


def _neighbourhoods(units: list[tuple[Block, ...]], random: np.random.Generator, near: int, begun: float) -> np.ndarray:
    """``[units]`` the neighbourhood of each block, or of the few that go together: row groups picked at random, ``near`` rows,
    whose blocks are mixed.

    A row group is decoded as a whole, however few of its rows are wanted. Reading one neighbourhood after another lets
    the reader keep what it decodes, where blocks picked from everywhere would decode large files over and over. The first is
    smaller by the share ``begun``, another for each domain: else all would come to their next at one time, and a training
    would wait for what they all decode then.
    """
    groups = [(unit[0].file, unit[0].group) for unit in units]
    new_group = [i == 0 or group != groups[i - 1] for i, group in enumerate(groups)]
    group_of = np.cumsum(new_group, dtype=np.int64) - 1
    group_rows = np.bincount(group_of, [sum(block.rows for block in unit) for unit in units]).astype(np.int64)
    order = random.permutation(len(group_rows))
    rows_before = np.cumsum(group_rows[order]) - group_rows[order]
    neighbourhood = np.empty(len(order), np.int64)
    gone = int(begun * near) if group_rows.sum() > near else 0  # what is near as a whole stays whole
    neighbourhood[order] = (rows_before + gone) // max(near, 1)
    return neighbourhood[group_of]
