"""Reading a rank's part of the events, in the order the plan gives, a few batches ahead of the model."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping

from .assemble import assemble
from .batch import Batch
from .columns import needed_columns
from .encode import EventEncoder
from .parquet import EventFiles, open_parquet, read_group
from .plan import Chunk, RankPlan
from .rows import Rows, concatenate

_CACHE_BYTES = 512 * 2**20


class Reader:
    """Turns a plan into batches.

    Encoded row groups are kept in memory until the plan has no more use for them, or half a gigabyte is full of others that
    were used later.
    """

    def __init__(self, encoder: EventEncoder, files: Mapping[int, EventFiles], padded: int, with_host: bool = False):
        """Args: encoder, position of a domain -> its files, bags per key in each batch, whether batches carry `host`."""
        self._encoder, self._files, self._padded, self._with_host = encoder, files, padded, with_host
        self._names = encoder.layout.domains
        needs = {d: needed_columns(encoder.experiment, self._names[d]) for d in files}
        self._columns = {d: list(dict.fromkeys(need.name for need in needs[d])) for d in files}
        self._cache: OrderedDict[tuple[int, int, int], Rows] = OrderedDict()
        self._cached = 0
        self._uses: Counter[tuple[int, int, int]] = Counter()
        self._empty = {d: self._read_empty(d) for d in files}

    def batches(self, plan: RankPlan, first_step: int = 0) -> Iterator[Batch]:
        """The batches of steps ``first_step`` and later; a batch may be empty where a rank has too few rows."""
        domains, rest = list(self._files), plan.rest(first_step)
        before = plan.taken(first_step)
        streams = {d: _Stream(self._read_chunk, chunks) for d, chunks in zip(domains, rest, strict=True)}
        self._uses = Counter(group for chunks in rest for chunk in chunks for group in _groups(chunk))
        for step in range(first_step, plan.steps):
            after = plan.taken(step + 1)
            parts = [streams[d].take(b - a) for d, a, b in zip(domains, before, after, strict=True) if b > a]
            parts = parts or [self._empty[domains[0]]]
            yield assemble(parts, self._encoder.layout, self._encoder.text_vectors, self._padded)
            before = after

    def _read_chunk(self, chunk: Chunk) -> Rows:
        groups = _groups(chunk)
        read = {group: self._read_group(group) for group in groups}
        for group in groups:
            self._uses[group] -= 1
            if not self._uses[group]:
                self._forget(group)
        # Laid end to end and then picked from: one copy in order, one at random.
        rows = concatenate([read[chunk.domain, b.file, b.group].slice(b.start, b.stop) for b in chunk.blocks])
        return rows.take(chunk.order()) if chunk.shuffle_key else rows.slice(chunk.start, chunk.stop)

    def _read_group(self, key: tuple[int, int, int]) -> Rows:
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        domain, file, group = key
        path = self._files[domain].files[file]
        table = read_group(path, group, self._columns[domain])
        rows = self._encoder.encode(self._names[domain], table, f"{path}: row group {group}", with_host=self._with_host)
        self._cache[key] = rows
        self._cached += rows.nbytes
        while self._cached > _CACHE_BYTES and len(self._cache) > 1:
            self._forget(next(iter(self._cache)))
        return rows

    def _forget(self, key: tuple[int, int, int]) -> None:
        rows = self._cache.pop(key, None)
        self._cached -= rows.nbytes if rows else 0

    def _read_empty(self, domain: int) -> Rows:
        path = self._files[domain].files[0]
        table = open_parquet(path).schema_arrow.empty_table().select(self._columns[domain])
        return self._encoder.encode(self._names[domain], table, path, with_host=self._with_host)


def _groups(chunk: Chunk) -> list[tuple[int, int, int]]:
    """Domain, file and row group of a chunk's blocks, each once."""
    return list(dict.fromkeys((chunk.domain, block.file, block.group) for block in chunk.blocks))


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
                self._held, self._at = self._read(next(self._chunks)), 0
            count = min(rows, len(self._held) - self._at)
            parts.append(self._held.slice(self._at, self._at + count))
            self._at += count
            rows -= count
        return concatenate(parts)
