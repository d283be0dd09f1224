"""A content store in an object store: made in a mirror, then published so that a reader has the old store or the new one.

The mirror keeps what an interrupted job has done, as long as the store in the bucket is the one it began with; a note
beside it holds that store's manifest.
"""

import shutil
from pathlib import Path

from ..storage import storage
from ..storage.mirror import fetch, origin, publish_changed, remove_original
from .content_store import DIGESTS, MANIFEST, PCA, VECTORS, read_manifest


def begin_from_published(folder: Path) -> None:
    """Makes a mirror of a content's store the store in the bucket, unless it is already what comes after that one.

    Raises:
        StorageError: the object store cannot be reached or refuses.
    """
    uri = origin(folder)
    if uri is None:
        return
    published = storage.read(storage.join(uri, MANIFEST))
    if published != storage.read(_note(folder)):
        storage.remove(_note(folder))
        shutil.rmtree(folder, ignore_errors=True)
        if published is not None:
            fetch(folder)
            storage.write(_note(folder), published)


def publish_store(folder: Path, rebuilt: bool) -> None:
    """Writes a mirror's finished store to the bucket, its manifest last.

    What was there stays valid meanwhile, since rows are only ever added; where all are new, its manifest goes first, so
    that there is no store until the new one is whole.

    Args:
        folder: of a content's store.
        rebuilt: whether its rows are not those it had.

    Raises:
        StorageError: the object store cannot be reached or refuses.
    """
    uri, manifest, written = origin(folder), read_manifest(folder), storage.read(folder / MANIFEST)
    if uri is None or manifest is None or written is None or written == storage.read(_note(folder)):
        return
    if rebuilt:
        remove_original(folder / MANIFEST)
        storage.remove(_note(folder))
    names = [name for name in (VECTORS, DIGESTS, manifest["index"], PCA) if (folder / name).is_file()]
    publish_changed(folder, [*names, MANIFEST])
    storage.write(_note(folder), written)
    for name in storage.listing(uri).keys() - {*names, MANIFEST}:  # indexes of before
        remove_original(folder / name)


def _note(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.published")
