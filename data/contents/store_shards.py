"""The shards of a content store: stretches of its rows that are written, and believed, as a whole.

A shard is written into its place in ``vectors.f16``, flushed to disk, and only then noted in ``work/``, with checksums of
its texts and its bytes. What is noted and still has those checksums is never made again.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..storage import storage
from ..storage.json_documents import read_document
from .content_store import VECTORS, WORK, Written

HALF_BYTES = 2  # of a float16
_BLOCK = 1 << 24


@dataclass(frozen=True)
class Shard:
    """Rows ``start`` to ``start + rows`` of a store."""

    start: int
    rows: int


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns what a disk refuses into one clear error."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "Free some space" if full else "Choose a folder you can write to with text.store"
        what = "the disk is full" if full else f"cannot be written ({error.strerror})"
        raise UserError(
            folder, what, f"{remedy}; run the command again, what is done is kept and the store is unchanged."
        ) from error


def reserve(folder: Path, rows: int, dimension: int) -> None:
    """Takes the disk space of all rows beforehand, so that a full disk is found out before hours of work.

    Raises:
        UserError: there is not so much.
    """
    wanted, path = rows * dimension * HALF_BYTES, folder / VECTORS
    had = path.stat().st_size if path.is_file() else 0
    with disk_errors(folder), path.open("ab") as stream:
        if wanted > had:
            try:
                os.posix_fallocate(stream.fileno(), had, wanted - had)
            except OSError as error:
                os.ftruncate(stream.fileno(), had)
                free = shutil.disk_usage(folder).free
                if error.errno == errno.ENOSPC:
                    raise UserError(
                        folder,
                        f"the disk is full: {wanted - had:,} bytes are needed, {free:,} are free",
                        "Free some space or choose another text.store; the store is unchanged.",
                    ) from error
                raise


def write_shard(
    folder: Path, shard: Shard, vectors: np.ndarray, digests: np.ndarray, cut: int, bad: Mapping[int, str]
) -> None:
    """Writes one shard and notes that it is there.

    Args:
        folder: of the store.
        shard: its place.
        vectors: ``[rows, D]`` float16.
        digests: ``[rows, 16]`` uint8, of its texts.
        cut: texts that were longer than the encoder takes.
        bad: row of the shard -> what is wrong, where it was nothing that can be encoded.
    """
    content = np.ascontiguousarray(vectors, "<f2")
    with disk_errors(folder):
        descriptor = os.open(folder / VECTORS, os.O_RDWR)
        try:
            place, left = shard.start * content.shape[1] * HALF_BYTES, memoryview(content.tobytes())
            while left:
                written = os.pwrite(descriptor, left, place)
                place, left = place + written, left[written:]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        note = Written(
            rows=shard.rows,
            texts=sha256_of(digests),
            vectors=sha256_of(content),
            cut=cut,
            bad={str(row): bad[row] for row in sorted(bad)},
        )
        storage.write(_note(folder, shard), note.model_dump_json(exclude_defaults=True).encode())


def finished(folder: Path, shard: Shard, digests: np.ndarray, dimension: int) -> Written | None:
    """What is noted of a shard, if its texts are still these and its bytes what they were; else None."""
    try:
        told = read_document(_note(folder, shard), Written, "")
    except UserError:
        return None
    if told is None:
        return None
    note = Written.model_validate(told)
    same = note.rows == shard.rows and note.texts == sha256_of(digests)
    return note if same and shard_checksum(folder, shard, dimension) == note.vectors else None


def noted(folder: Path, shards: Sequence[Shard]) -> list[Shard]:
    """Those of the shards that have a note, without looking at their bytes."""
    names = set(os.listdir(folder / WORK))
    return [shard for shard in shards if _note(folder, shard).name in names]


def shard_checksum(folder: Path, shard: Shard, dimension: int) -> str:
    """SHA-256 of the bytes where a shard is, as far as there are any."""
    digest = hashlib.sha256()
    left = shard.rows * dimension * HALF_BYTES
    try:
        with (folder / VECTORS).open("rb") as stream:
            stream.seek(shard.start * dimension * HALF_BYTES)
            while left and (block := stream.read(min(left, _BLOCK))):
                digest.update(block)
                left -= len(block)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


def as_halves(vectors: np.ndarray, where: str) -> np.ndarray:
    """``[N, D]`` float16.

    Raises:
        UserError: one is not finite.
    """
    with np.errstate(over="ignore"):
        halves = vectors.astype(np.float16, copy=False)
    if not np.isfinite(halves).all():
        row = int(np.flatnonzero(~np.isfinite(halves).all(axis=1))[0])
        raise UserError(where, f"vector {row} is not finite in float16", "Set normalize: true, or use another encoder.")
    return halves


def _note(folder: Path, shard: Shard) -> Path:
    return folder / WORK / f"shard-{shard.start:012d}.json"


def sha256_of(array: np.ndarray) -> str:
    """Hex digest of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
