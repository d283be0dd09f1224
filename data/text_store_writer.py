"""Writing a text store: whose folder it is, and how what was written comes to count, in one step."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import UserError
from .text_shards import HALF_BYTES, Shard, Written, as_halves, disk_errors, finished, reserve, sha256_of, write_shard
from .text_store import (
    DIGEST_BYTES,
    DIGESTS,
    FORMAT,
    VECTORS,
    WORK,
    read_manifest,
    replace_file,
    write_manifest,
)


@contextmanager
def claimed(store: Path) -> Iterator[None]:
    """Makes the folder of an experiment's text stores this job's, until it ends or dies.

    Raises:
        UserError: another job is writing there, or the folder cannot be made.
    """
    with disk_errors(store):
        store.mkdir(parents=True, exist_ok=True)
        folder = os.open(store, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                store, "another `foundrank embed` is writing this text store", "Wait for it, or end it."
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(folder)


def read_digests(folder: Path, rows: int) -> np.ndarray:
    """``[rows, 16]`` uint8 digests of a store's texts; fewer where the file has been damaged."""
    path = folder / DIGESTS
    content = path.read_bytes()[: rows * DIGEST_BYTES] if path.is_file() else b""
    return np.frombuffer(content[: len(content) // DIGEST_BYTES * DIGEST_BYTES], np.uint8).reshape(-1, DIGEST_BYTES)


def commit(
    folder: Path,
    keys: pa.Array,
    row_of_key: np.ndarray,
    digests: np.ndarray,
    shards: Sequence[Written],
    dimension: int,
    manifest: dict[str, Any],
) -> None:
    """Makes the rows of all shards count, in one step, and tidies up.

    Args:
        folder: of the store; its vectors are written.
        keys: ``[K]`` int64 or string.
        row_of_key: ``[K]`` rows of the vectors.
        digests: ``[N, 16]`` uint8, of every row's text.
        shards: all of them, in order.
        dimension: D.
        manifest: what the vectors were made from and with; sizes and checksums are added here.
    """
    with disk_errors(folder):
        with (folder / VECTORS).open("r+b") as stream:
            stream.truncate(len(digests) * dimension * HALF_BYTES)
            os.fsync(stream.fileno())
        # A store being read has the same bytes at the start: rows are only ever added.
        with (folder / DIGESTS).open("ab") as stream:
            pass
        with (folder / DIGESTS).open("r+b") as stream:
            stream.write(digests.tobytes())
            stream.truncate()
            stream.flush()
            os.fsync(stream.fileno())
        content = index_bytes(keys, row_of_key, len(digests))
        checksum = hashlib.sha256(content).hexdigest()
        index = f"index-{checksum[:16]}.parquet"
        replace_file(folder / index, content)
        full = manifest | {
            "rows": len(digests),
            "dimension": dimension,
            "dtype": "float16",
            "keys": len(keys),
            "index": index,
            "index_sha256": checksum,
            "texts_sha256": sha256_of(digests),
            "shards": [vars(shard) for shard in shards],
        }
        write_manifest(folder, full)
        tidy(folder, full)


def index_bytes(keys: pa.Array, row_of_key: np.ndarray, rows: int) -> bytes:
    """The content of a store's index file; the same for the same keys and rows."""
    sink = pa.BufferOutputStream()
    row_type = np.int32 if rows <= np.iinfo(np.int32).max else np.int64
    pq.write_table(pa.table({"key": keys, "row": row_of_key.astype(row_type)}), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def tidy(folder: Path, manifest: dict[str, Any]) -> None:
    """Removes what no finished store has: notes, older indexes, temporaries of a job that died."""
    shutil.rmtree(folder / WORK, ignore_errors=True)
    for pattern in ("index-*.parquet", ".*.tmp-*"):
        for path in folder.glob(pattern):
            if path.name != manifest["index"]:
                path.unlink(missing_ok=True)


def write_text_store(
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
        (new / WORK).mkdir(parents=True)
        reserve(new, *halves.shape)
        write_shard(new, shard, halves, digests, 0)
        note = finished(new, shard, digests, halves.shape[1])
        assert note is not None
        held = {"format": FORMAT, "made_with": {"vectors": "given"}} | manifest
        commit(new, keys, np.asarray(row_of_key), digests, [note], halves.shape[1], held)
        swap(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def swap(new: Path, folder: Path) -> None:
    """Puts the store ``new`` in the place of ``folder``; if that fails, the old one is back in its place."""
    old = folder.with_name(f"{folder.name}.old-{os.getpid()}")
    try:
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    except OSError:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def held_shards(folder: Path) -> tuple[dict[str, Any] | None, list[tuple[Shard, Written]]]:
    """The manifest of a store, if there is one, and its shards."""
    manifest, start, shards = read_manifest(folder), 0, []
    for entry in manifest["shards"] if manifest else []:
        note = Written(**entry)
        shards.append((Shard(start, note.rows), note))
        start += note.rows
    return manifest, shards
