"""What an unfinished embed job has laid down in a store's ``work/``, for all its ranks and for the commit::

    texts.b16      [N, 16] bytes: the digest of every row's text; becomes the store's
    positions.i64  [N] int64: catalog row of every row's text, -1 where the catalog no longer has it
    index.parquet  key, row; becomes the store's

They are there before the first shard, and made anew when a job is run again.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..content_kinds.content import DIGEST_BYTES
from .content_store import DIGESTS, WORK
from .store_shards import Shard

POSITIONS, INDEX = "positions.i64", "index.parquet"
_GROUP = 1 << 16


def write_rows(folder: Path, blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Writes the digests ``[n, 16]`` uint8 and positions ``[n]`` int64 of all rows."""
    with (folder / WORK / DIGESTS).open("wb") as digests, (folder / WORK / POSITIONS).open("wb") as positions:
        for of_texts, places in blocks:
            digests.write(of_texts.tobytes())
            positions.write(places.astype(np.int64, copy=False).tobytes())
        for stream in (digests, positions):
            stream.flush()
            os.fsync(stream.fileno())


def write_index(folder: Path, blocks: Iterable[pa.Table], rows: int, path: Path | None = None) -> None:
    """Writes the index; the same bytes for the same keys and rows, however they are cut into blocks.

    Args:
        folder: of the store.
        blocks: tables of ``key`` (int64 or string) and ``row``; at least one.
        rows: of the store.
        path: of the file, if it is another one.
    """
    row_type = pa.int32() if rows <= np.iinfo(np.int32).max else pa.int64()
    writer = None
    with (path or folder / WORK / INDEX).open("wb") as stream:
        for group in _regroup(blocks):
            table = group.set_column(1, "row", group["row"].cast(row_type)).combine_chunks()
            writer = writer or pq.ParquetWriter(stream, table.schema, compression="zstd")
            writer.write_table(table, _GROUP)
        assert writer is not None
        writer.close()
        stream.flush()
        os.fsync(stream.fileno())


def drop_from_index(folder: Path, rows: Collection[int], of_store: int) -> dict[int, int]:
    """Takes the keys of some rows out of the index.

    Args:
        folder: of the store.
        rows: that turned out to be nothing.
        of_store: rows of the store.

    Returns:
        row -> how many keys it had.
    """
    if not rows:
        return {}
    path, sorted_rows = folder / WORK / INDEX, pa.array(sorted(rows), pa.int64())
    dropped: Counter[int] = Counter()

    def kept() -> Iterator[pa.Table]:
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(_GROUP):
                table = pa.Table.from_batches([batch])
                gone = pc.is_in(table["row"].cast(pa.int64()), sorted_rows)
                dropped.update(table["row"].filter(gone).to_pylist())
                yield table.filter(pc.invert(gone))

    write_index(folder, kept(), of_store, path.with_suffix(".kept"))
    path.with_suffix(".kept").replace(path)
    return dict(dropped)


def keys_in_index(folder: Path) -> int:
    """How many keys the index has."""
    return pq.read_metadata(folder / WORK / INDEX).num_rows


def shard_digests(folder: Path, shard: Shard) -> np.ndarray:
    """``[rows, 16]`` uint8 digests of the texts of a shard."""
    size, start = shard.rows * DIGEST_BYTES, shard.start * DIGEST_BYTES
    return np.fromfile(folder / WORK / DIGESTS, np.uint8, size, offset=start).reshape(-1, DIGEST_BYTES)


def shard_positions(folder: Path, shard: Shard) -> np.ndarray:
    """``[rows]`` int64 catalog rows of the texts of a shard; -1 where the catalog no longer has one."""
    return np.fromfile(folder / WORK / POSITIONS, np.int64, shard.rows, offset=shard.start * 8)


def first_positions(folder: Path, rows: Sequence[int], most: int = 3) -> np.ndarray:
    """``[min(most, rows)]`` int64 ascending catalog rows, the first at which any of some rows appears."""
    positions = np.memmap(folder / WORK / POSITIONS, np.int64, "r")
    return np.sort(positions[np.array(rows, np.int64)])[:most]


def _regroup(blocks: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of ``_GROUP`` rows; the last may be shorter."""
    pending = None
    for block in blocks:
        pending = block if pending is None else pa.concat_tables([pending, block])
        for _ in range(pending.num_rows // _GROUP):
            yield pending.slice(0, _GROUP)
            pending = pending.slice(_GROUP)
    if pending is not None:
        yield pending
