"""Reading a rank's part of the events, in its order, a few batches ahead of the model."""

import os
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from ..batch.batch import Batch
from ..batch.past_items import NONE, Draw
from ..batch.row_encoder import RowEncoder
from ..batch.rows import Rows, concatenate
from ..events.bad_rows import read_events
from ..events.event_files import EventFiles, open_parquet
from ..machine.limits import memory
from ..rates.parts import Place
from ..schema.bad_values import BadValue, rows_of
from ..schema.column_needs import needed_columns
from ..schema.groups import group_needs
from .order import Block, Chunk, RankOrder

CACHE_SHARE = 1 / 8
"""Of the machine's memory, for all its ranks together: row groups that a reader still has use for."""
_COMPACT_SHARE = 3 / 4  # a row group of which a rank needs less is cut down to that

_Group = tuple[int, int, int]
"""Domain, file and row group in it."""


@dataclass
class _Held:
    """Encoded rows of a row group: all, or those of the blocks in use; and where a block begins, by its first row."""

    rows: Rows
    starts: dict[int, int]

    def block(self, block: Block) -> Rows:
        at = self.starts[block.start]
        return self.rows.slice(at, at + block.rows)


class Reader:
    """Turns an order into batches.

    Encoded row groups are kept in memory until the order has no more use for them, or an eighth of the machine's memory is full
    of others that were used later. A rank keeps only the rows it will use.
    """

    def __init__(
        self,
        encoder: RowEncoder,
        files: Mapping[int, EventFiles],
        padded: int,
        with_host: bool = False,
        of_training: bool = False,
    ):
        """Args: encoder, position of a domain -> its files, bags per key in each batch, whether batches carry `host`, and whether
        the rows are those whose labels the rates are made of."""
        self._of_training = of_training
        self._encoder, self._files, self._padded, self._with_host = encoder, files, padded, with_host
        self._names = encoder.layout.domains
        self._needs = {d: needed_columns(encoder.experiment, self._names[d]) for d in files}
        if of_training:
            self._needs = {d: [*of, *group_needs(encoder.experiment, self._names[d])] for d, of in self._needs.items()}
        self._cache: OrderedDict[_Group, _Held] = OrderedDict()
        self._cached = 0
        self._most = memory() * CACHE_SHARE / int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
        self._left: defaultdict[_Group, Counter[Block]] = defaultdict(Counter)

    def batches(self, order: RankOrder, first_step: int = 0, draw: Draw = lambda step: NONE) -> Iterator[Batch]:
        """The batches of steps ``first_step`` and later, with the candidates drawn for each. One order at a time.

        A batch may be empty where a rank has too few rows.
        """
        domains, rest = list(self._files), order.rest(first_step)
        before = order.taken(first_step)
        streams = {d: _Stream(self._read_chunk, chunks) for d, chunks in zip(domains, rest, strict=True)}
        self._cache.clear()  # of an order that was left half-way, cut down to what that had in use
        self._cached = 0
        self._left.clear()
        for chunk in (chunk for chunks in rest for chunk in chunks):
            for block in chunk.blocks:
                self._left[chunk.domain, block.file, block.group][block] += 1
        for step in range(first_step, order.steps):
            after = order.taken(step + 1)
            parts = [streams[d].take(b - a) for d, a, b in zip(domains, before, after, strict=True) if b > a]
            parts = parts or [self._empty]
            yield self._encoder.assemble(parts, self._padded, draw(step))
            before = after

    def _read_chunk(self, chunk: Chunk) -> Rows:
        groups = [(chunk.domain, block.file, block.group) for block in chunk.blocks]
        held = {group: self._read_group(group) for group in dict.fromkeys(groups)}
        parts = [held[group].block(block) for group, block in zip(groups, chunk.blocks, strict=True)]
        for group, block in zip(groups, chunk.blocks, strict=True):
            self._use(group, block)
        # Laid end to end and then picked from: one copy in order, one at random.
        rows = concatenate(parts)
        del held, parts  # row groups that nothing else needs must not be in memory beside two copies
        if not chunk.shuffle_key:
            return rows.slice(chunk.start, chunk.stop)
        order = chunk.order()
        rows = rows.take(order)
        rows.begins_list = chunk.begins(order)
        return rows

    def _read_group(self, key: _Group) -> _Held:
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        domain, file, group = key
        path = self._files[domain].files[file]
        table, bad = read_events(path, group, self._needs[domain], self._encoder.experiment.bad_data)
        place = Place(file, group) if self._of_training else None
        rows = self._encode(domain, table, f"{path}: row group {group}", bad, place)
        self._cache[key] = held = _compact(rows, list(self._left[key]))
        self._cached += held.rows.nbytes
        while self._cached > self._most and len(self._cache) > 1:
            self._forget(next(iter(self._cache)))
        return held

    def _use(self, group: _Group, block: Block) -> None:
        left = self._left[group]
        left[block] -= 1
        if not left[block]:
            del left[block]
        if not left:
            self._forget(group)

    def _forget(self, key: _Group) -> None:
        held = self._cache.pop(key, None)
        self._cached -= held.rows.nbytes if held else 0

    @cached_property
    def _empty(self) -> Rows:
        """No rows; where a training has no files either, it takes no step that would need them."""
        domain, path = next((d, of.files[0]) for d, of in self._files.items() if of.files)
        columns = list(dict.fromkeys(need.name for need in self._needs[domain]))
        return self._encode(domain, open_parquet(path).schema_arrow.empty_table().select(columns), path, [])

    def _encode(
        self, domain: int, table: pa.Table, where: str, bad: list[BadValue], place: Place | None = None
    ) -> Rows:
        rows = self._encoder.encode(self._names[domain], table, where, with_host=self._with_host, place=place)
        if bad:
            is_bad = rows_of(bad, table.num_rows)
            rows.chosen &= ~is_bad
            if self._with_host:
                rows.host["bad"] = is_bad
        return rows


def _compact(rows: Rows, blocks: list[Block]) -> _Held:
    """The rows of some blocks of a row group; of most of them, the row group as it is."""
    if sum(block.rows for block in blocks) >= _COMPACT_SHARE * len(rows):
        return _Held(rows, {block.start: block.start for block in blocks})
    starts = np.cumsum([0, *(block.rows for block in blocks)]).tolist()
    at = np.concatenate([np.arange(block.start, block.stop) for block in blocks])
    return _Held(rows.take(at), {block.start: start for block, start in zip(blocks, starts, strict=False)})


class _Stream:
    """Rows of one domain, taken a few at a time from its chunks."""

    def __init__(self, read: Callable[[Chunk], Rows], chunks: list[Chunk]):
        self._read, self._chunks = read, iter(chunks)
        self._held: Rows | None = None
        self._at = 0

    def take(self, rows: int) -> Rows:
        parts: list[Rows] = []
        while rows:
            if self._held is None or self._at == len(self._held):
                self._held = None  # before the next is read
                self._held, self._at = self._read(next(self._chunks)), 0
            count = min(rows, len(self._held) - self._at)
            parts.append(self._held.slice(self._at, self._at + count))
            self._at += count
            rows -= count
        return concatenate(parts)
