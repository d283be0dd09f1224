"""A content store of vectors that are there already."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foundrank.data.content_kinds.content import DIGEST_BYTES
from foundrank.data.contents.content_store import FORMAT, WORK
from foundrank.data.contents.embed_work import write_index, write_rows
from foundrank.data.contents.store_shards import Shard, as_halves, finished, reserve, write_shard
from foundrank.data.contents.store_writer import commit, swap
from foundrank.data.storage.local_writes import make_folder


def write_store(
    folder: str | Path, keys: pa.Array, row_of_key: np.ndarray, vectors: np.ndarray, manifest: dict[str, Any]
) -> None:
    """Writes a whole store from vectors that are there already, in place of an older one.

    Args:
        folder: the entity's folder.
        keys: ``[K]`` int64 or string.
        row_of_key: ``[K]`` integers in ``[0, N)``.
        vectors: ``[N, D]`` floats, stored as float16.
        manifest: as from `expected_manifest`.

    Raises:
        UserError: a vector is not finite in float16, or the disk refuses.
    """
    folder = Path(folder)
    halves = as_halves(vectors, str(folder))
    rows = np.arange(len(halves), dtype=np.int64)
    # Digests of no text: `foundrank embed` will not add to this store.
    digests = np.zeros((len(halves), DIGEST_BYTES), np.uint8)
    digests[:, :8] = rows[:, None].view(np.uint8)
    shard, new = Shard(0, len(halves)), folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    try:
        make_folder(new)
        (new / WORK).mkdir()
        reserve(new, *halves.shape)
        write_shard(new, shard, halves, digests, 0, {})
        write_rows(new, [(digests, rows)])
        write_index(new, [pa.table({"key": keys, "row": np.asarray(row_of_key)})], len(halves))
        note = finished(new, shard, digests, halves.shape[1])
        assert note is not None
        held = {"format": FORMAT, "made_with": {"vectors": "given"}} | manifest
        commit(new, len(halves), [note], halves.shape[1], held)
        swap(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
