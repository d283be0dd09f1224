"""Writing a content store: whose folder it is, and how what was written comes to count, in one step."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ..content_kinds.content import DIGEST_BYTES
from ..errors import UserError
from ..storage.local_writes import refuse_links
from .content_store import DIGESTS, VECTORS, WORK, Written, read_manifest, sha256_of_file, write_manifest
from .embed_work import INDEX
from .store_shards import HALF_BYTES, Shard, disk_errors


def make_store(store: Path) -> None:
    """Makes the folder of an experiment's content store, where it is not there.

    Raises:
        UserError: it cannot be made, or there is a link in it.
    """
    with disk_errors(store):
        store.mkdir(parents=True, exist_ok=True)
        refuse_links(store, files=True)


def read_digests(folder: Path, manifest: dict[str, Any] | None) -> Iterator[np.ndarray]:
    """The digests of a store's texts, in blocks ``[n, 16]`` uint8; none where there is no store.

    Raises:
        UserError: after the last, if they are not those the manifest knows.
    """
    if manifest is None:
        return
    left, checksum = manifest["rows"] * DIGEST_BYTES, hashlib.sha256()
    with disk_errors(folder), (folder / DIGESTS).open("ab+") as stream:  # missing is damaged, too
        stream.seek(0)
        while content := stream.read(min(left, DIGEST_BYTES << 14)):
            left -= len(content)
            checksum.update(content)
            whole = len(content) // DIGEST_BYTES
            yield np.frombuffer(content, np.uint8, whole * DIGEST_BYTES).reshape(-1, DIGEST_BYTES)
    if checksum.hexdigest() != manifest["texts_sha256"]:
        raise UserError(
            folder,
            "the content store's list of texts is damaged",
            "Run `foundrank embed EXP --rebuild` to build it again.",
        )


def commit(folder: Path, rows: int, shards: Sequence[Written], dimension: int, manifest: dict[str, Any]) -> None:
    """Makes the rows of all shards count, in one step, and tidies up.

    Args:
        folder: of the store; its vectors are written, and ``work/`` holds its digests and index.
        rows: N, of the store.
        shards: all of them, in order.
        dimension: D.
        manifest: what the vectors were made from and with; sizes and checksums are added here.
    """
    with disk_errors(folder):
        with (folder / VECTORS).open("r+b") as stream:
            stream.truncate(rows * dimension * HALF_BYTES)
            os.fsync(stream.fileno())
        checksum = sha256_of_file(folder / WORK / INDEX)
        full = manifest | {
            "rows": rows,
            "dimension": dimension,
            "dtype": "float16",
            "keys": pq.read_metadata(folder / WORK / INDEX).num_rows,
            "index": f"index-{checksum[:16]}.parquet",
            "index_sha256": checksum,
            "texts_sha256": sha256_of_file(folder / WORK / DIGESTS),
            "shards": [shard.model_dump(exclude_defaults=True) for shard in shards],
        }
        os.replace(folder / WORK / INDEX, folder / full["index"])
        os.replace(folder / WORK / DIGESTS, folder / DIGESTS)  # rows are only ever added: it begins as the old one
        write_manifest(folder, full)
        tidy(folder, full)


def tidy(folder: Path, manifest: dict[str, Any]) -> None:
    """Removes what no finished store has: notes, older indexes, temporaries of a job that died."""
    shutil.rmtree(folder / WORK, ignore_errors=True)
    for pattern in ("index-*.parquet", ".*.tmp-*"):
        for path in folder.glob(pattern):
            if path.name != manifest["index"]:
                path.unlink(missing_ok=True)


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
        note = Written.model_validate(entry)
        shards.append((Shard(start, note.rows), note))
        start += note.rows
    return manifest, shards
