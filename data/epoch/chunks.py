"""The chunks of an epoch: rows of a few blocks of one domain, shuffled together; and where they may be cut."""

from dataclasses import dataclass, replace

import numpy as np

from ..counting.list_marks import ListMarks
from ..events.event_files import EventFiles

_BLOCKS_PER_DOMAIN = 1024
_SMALLEST_BLOCK = 16


@dataclass(frozen=True)
class Block:
    """Rows ``start`` to ``stop`` of one row group."""

    file: int
    group: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Chunk:
    """Rows ``start`` to ``stop`` of the shuffled rows of some blocks of one domain; where ``lists`` are to stay whole, of its
    shuffled lists.
    """

    domain: int
    shuffle_key: tuple[int, ...]
    blocks: tuple[Block, ...]
    start: int
    stop: int
    lists: "DomainLists | None" = None

    @property
    def rows(self) -> int:
        return self.stop - self.start

    def cut(self, start: int, stop: int) -> "Chunk":
        """Part of this chunk, positions counted from its own start."""
        return replace(self, start=self.start + start, stop=self.start + stop)

    def order(self) -> np.ndarray:
        """``[rows]`` positions among the blocks' rows laid end to end; in file order where there is no shuffle key."""
        if not self.shuffle_key:
            return np.arange(self.start, self.stop)
        random = np.random.default_rng(self.shuffle_key)
        if self.lists is not None:
            starts, lengths = self._shuffled_lists(random)
            first = np.cumsum(lengths) - lengths
            order = np.repeat(starts - first, lengths)
            order += np.arange(len(order))
            return order[self.start : self.stop]
        total = sum(block.rows for block in self.blocks)
        return random.permutation(total)[self.start : self.stop]

    def begins(self, order: np.ndarray) -> np.ndarray | None:
        """``[rows]`` bool, whether a list begins, in the order that `order` has given; None where lists need not stay whole."""
        return None if self.lists is None else self._begins()[order]

    def list_bounds(self) -> np.ndarray:
        """Where it may be cut: 0, and after how many of its rows each of its lists ends; int64, increasing."""
        _, lengths = self._shuffled_lists(np.random.default_rng(self.shuffle_key))
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        return bounds[(bounds >= self.start) & (bounds <= self.stop)] - self.start

    def _shuffled_lists(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        begins = self._begins()
        starts = np.flatnonzero(begins)
        lengths = np.diff(starts, append=len(begins))
        order = random.permutation(len(starts))
        return starts[order], lengths[order]

    def _begins(self) -> np.ndarray:
        assert self.lists is not None
        return np.concatenate([self.lists.of(block) for block in self.blocks])

    def locations(self) -> list[tuple[int, int, int, int]]:
        """Domain, file, row group and row in it, of each row in order."""
        starts = np.cumsum([0, *(block.rows for block in self.blocks)])
        order = self.order()
        pairs = zip(order, np.searchsorted(starts, order, side="right") - 1, strict=True)
        return [
            (self.domain, (block := self.blocks[b]).file, block.group, int(block.start + at - starts[b]))
            for at, b in pairs
        ]


class DomainLists:
    """Where lists begin among the rows of a domain, by block."""

    def __init__(self, events: EventFiles, marks: ListMarks):
        """Args: the domain's files, and the marks of all their rows."""
        self._begins = marks.begins
        rows = [rows for groups in events.group_rows for rows in groups]
        firsts = iter((np.cumsum([0, *rows])[:-1]).tolist())
        self._first = {(f, g): next(firsts) for f, groups in enumerate(events.group_rows) for g in range(len(groups))}

    def of(self, block: Block) -> np.ndarray:
        """``[rows]`` bool, of a block, whether a list begins."""
        first = self._first[block.file, block.group]
        return self._begins[first + block.start : first + block.stop]


def blocks_of(files: EventFiles) -> list[Block]:
    """Row groups, in file order, cut into parts where a domain has few of them, so that chunks mix rows from afar."""
    groups = [(f, g, rows) for f, of_file in enumerate(files.group_rows) for g, rows in enumerate(of_file) if rows]
    size = max(_SMALLEST_BLOCK, -(-files.rows // _BLOCKS_PER_DOMAIN))
    return [Block(f, g, at, min(at + size, rows)) for f, g, rows in groups for at in range(0, rows, size)]


def blocks_of_lists(events: EventFiles, lists: DomainLists) -> list[tuple[Block, ...]]:
    """`blocks_of`, each ending where a list ends; one whose last list goes on in the next row group together with that one's."""
    units: list[tuple[Block, ...]] = []
    for block in blocks_of(events):
        begins = np.flatnonzero(lists.of(block))
        own = int(begins[0]) if len(begins) else block.rows  # what stands before it belongs to the unit before
        if own:
            *before, last = units[-1]
            if (last.file, last.group, last.stop) == (block.file, block.group, block.start):
                units[-1] = (*before, Block(last.file, last.group, last.start, last.stop + own))
            else:
                units[-1] = (*before, last, Block(block.file, block.group, block.start, block.start + own))
        if own < block.rows:
            units.append((Block(block.file, block.group, block.start + own, block.stop),))
    return units


def between_lists(chunks: list[Chunk], wanted: np.ndarray) -> np.ndarray:
    """Numbers of rows, each moved down to where it cuts no list of chunks laid end to end; int64, non-decreasing.

    Args:
        chunks: of a domain whose lists stay whole.
        wanted: numbers of rows, non-decreasing.
    """
    starts = np.cumsum([0, *(chunk.rows for chunk in chunks)])
    out = wanted.astype(np.int64)
    in_chunk = np.searchsorted(starts, out, side="right") - 1
    for at in np.unique(in_chunk[~np.isin(out, starts)]):  # between two chunks is between two lists
        bounds, here = chunks[at].list_bounds(), in_chunk == at
        out[here] = starts[at] + bounds[np.searchsorted(bounds, out[here] - starts[at], side="right") - 1]
    return out


def drop(chunks: list[Chunk], start: int, stop: int | None = None) -> list[Chunk]:
    """Rows ``start`` to ``stop`` of chunks laid end to end."""
    out, at = [], 0
    for chunk in chunks:
        first = max(start - at, 0)
        last = chunk.rows if stop is None else min(stop - at, chunk.rows)
        if first < last:
            out.append(chunk.cut(first, last))
        at += chunk.rows
    return out
