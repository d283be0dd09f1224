"""The text store: the language model's vectors of a catalog's texts, written once, memory-mapped by every reader.

One folder per entity::

    <store>/item/vectors.npy     float16 [N, D], one row per distinct text
    <store>/item/index.parquet   key (the catalog's id type), row (into vectors); keys without text are absent
    <store>/item/manifest.json   what the vectors were made from and with, sizes and checksums
"""

import hashlib
import json
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from .catalog import catalog_fingerprint
from .errors import UserError
from .experiment import Experiment

VECTORS, INDEX, MANIFEST = "vectors.npy", "index.parquet", "manifest.json"
FORMAT = 1
_REMEDY = "Run `foundrank embed EXP` to write it."


@dataclass(frozen=True)
class TextStore:
    """An opened text store of one entity.

    Attributes:
        vectors: ``[N, D]`` float16 over the mapped file; read-only, writing to it crashes the process.
        keys: ``[K]`` int64 or string, unique.
        row_of_key: ``[K]`` int32 or int64, row of ``vectors`` of each key.
        manifest: what the vectors were made from and with.
    """

    vectors: torch.Tensor
    keys: pa.Array
    row_of_key: np.ndarray
    manifest: dict[str, Any]

    @property
    def size(self) -> int:
        """D, the width of a text vector."""
        return self.vectors.shape[1]


def text_store_folder(experiment: Experiment, entity: str) -> Path:
    """Where an entity's text vectors are."""
    return Path(experiment.text.store) / entity


def expected_manifest(experiment: Experiment, entity: str) -> dict[str, Any]:
    """The part of the manifest that the experiment and the catalog's files determine.

    Raises:
        UserError: the catalog's files are missing or not Parquet.
    """
    config, text = experiment.entities.present()[entity], experiment.text
    assert config.catalog is not None
    return {
        "format": FORMAT,
        "encoder": text.encoder,
        "pooling": text.pooling,
        "normalize": text.normalize,
        "max_length": text.max_length,
        "template": config.text,
        "catalog": config.catalog.path,
        "catalog_key": config.catalog.key,
        "catalog_fingerprint": catalog_fingerprint(entity, config),
    }


def write_text_store(
    folder: str | Path, keys: pa.Array, row_of_key: np.ndarray, vectors: np.ndarray, manifest: dict[str, Any]
) -> None:
    """Write a text store in one step: readers see the old one or the whole new one.

    Args:
        folder: the entity's folder; an older store there is replaced.
        keys: ``[K]`` int64 or string.
        row_of_key: ``[K]`` integers in ``[0, N)``.
        vectors: ``[N, D]`` floats, stored as float16.
        manifest: what the vectors were made from and with; sizes and checksums are added here.

    Raises:
        UserError: a vector is not finite in float16.
    """
    folder = Path(folder)
    with np.errstate(over="ignore"):
        halves = vectors.astype(np.float16, copy=False)
    if not np.isfinite(halves).all():
        row = int(np.flatnonzero(~np.isfinite(halves).all(axis=1))[0])
        raise UserError(
            folder, f"vector {row} is not finite in float16", "Set text.normalize: true, or use another encoder."
        )
    index_type = np.int32 if len(halves) <= np.iinfo(np.int32).max else np.int64
    index = pa.table({"key": keys, "row": np.asarray(row_of_key, index_type)})

    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    try:
        new.mkdir()
        np.save(new / VECTORS, halves)
        pq.write_table(index, new / INDEX, compression="zstd")
        full = manifest | {
            "rows": halves.shape[0],
            "dimension": halves.shape[1],
            "dtype": "float16",
            "keys": len(keys),
            "sha256": {name: _checksum(new / name) for name in (VECTORS, INDEX)},
        }
        write_manifest(new, full)
        _swap(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _swap(new: Path, folder: Path) -> None:
    """Put ``new`` in the place of ``folder``; if that fails, the old folder is back in its place."""
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


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write or replace the manifest of a store, atomically."""
    temporary = folder / f"{MANIFEST}.tmp-{os.getpid()}"
    temporary.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    os.replace(temporary, folder / MANIFEST)


def open_text_store(folder: str | Path) -> TextStore:
    """Open the text store of one entity; the vectors stay on disk until they are touched.

    Raises:
        UserError: it is absent, incomplete or damaged.
    """
    folder = Path(folder)
    for path in (folder, folder / MANIFEST, folder / INDEX, folder / VECTORS):
        if not path.exists():
            raise UserError(folder, f"no text store here: {path.name} is missing", _REMEDY)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        with pq.ParquetFile(folder / INDEX) as parquet:
            index = parquet.read()
        vectors = np.load(folder / VECTORS, mmap_mode="r")
        keys, rows = index["key"].combine_chunks(), index["row"].combine_chunks().to_numpy()
        shape = (manifest["rows"], manifest["dimension"])
        whole = vectors.shape == shape and vectors.dtype == np.float16 and len(keys) == manifest["keys"]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowInvalid) as error:
        raise UserError(folder, f"the text store cannot be read: {error}", _REMEDY) from error
    if not whole or (len(rows) and not 0 <= rows.min() <= rows.max() < len(vectors)):
        raise UserError(folder, "the text store's files do not belong together", _REMEDY)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return TextStore(torch.from_numpy(vectors), keys, rows, manifest)


def check_text_store(store: TextStore, experiment: Experiment, entity: str) -> None:
    """Refuse a store that was made from another text, catalog or encoder than the experiment asks for.

    Raises:
        UserError: naming the field that differs and both values.
    """
    expected = expected_manifest(experiment, entity)
    folder = text_store_folder(experiment, entity)
    for name, wanted in expected.items():
        made = store.manifest.get(name)
        if name == "catalog" or made == wanted:
            continue  # a catalog may move; its fingerprint says whether it is the same
        if name == "catalog_fingerprint":
            what = f"the catalog {expected['catalog']} has changed since its texts were embedded"
        else:
            what = f"the vectors were made with {name} = {made!r}, the experiment says {wanted!r}"
        raise UserError(folder, what, "Run `foundrank embed EXP` again.")


def damaged_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Files of a store whose content is not what the manifest's checksums say; reads all of them."""
    return [name for name, digest in manifest["sha256"].items() if _checksum(folder / name) != digest]


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
