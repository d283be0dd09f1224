"""The text store: the language model's vectors of a catalog's texts, written once, memory-mapped by every reader.

One folder per entity::

    <store>/item/vectors.f16            float16 [N, D], little-endian, no header: one row per distinct text
    <store>/item/texts.b16              [N, 16] bytes: the BLAKE2b digest of each row's text
    <store>/item/index-<sha256>.parquet key (the catalog's id type), row (into vectors); keys without text are absent
    <store>/item/pca.safetensors        mean and directions, where the vectors were reduced by PCA
    <store>/item/manifest.json          what the vectors were made from and with, sizes and checksums
    <store>/item/work/                  what an unfinished job has done so far; readers know nothing of it

The manifest is replaced last and in one step. It says how many rows count, so a job may append beyond them while the
store is being read, and a job that dies leaves the store as it was.
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from . import storage
from .catalog_files import catalog_fingerprint
from .errors import UserError
from .experiment import Experiment
from .mirror import fetch, mirrored

VECTORS, DIGESTS, MANIFEST, PCA, WORK = "vectors.f16", "texts.b16", "manifest.json", "pca.safetensors", "work"
FORMAT = 2
DIGEST_BYTES = 16
_REMEDY = "Run `foundrank embed EXP` to write it."
_ASKED = ("vectors", "encoder", "revision", "max_length", "pooling", "normalize", "dimension", "reduction", "precision")


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
    """Where an entity's text vectors are, or are fetched to; random ones lie beside the language model's."""
    return mirrored(experiment.text.store, "read") / (
        entity if experiment.text.vectors != "random" else f"{entity}-random"
    )


def expected_manifest(experiment: Experiment, entity: str) -> dict[str, Any]:
    """The part of the manifest that the experiment and the catalog's files determine.

    Raises:
        UserError: the catalog's files are missing or not Parquet.
    """
    config = experiment.entities.present()[entity]
    assert config.catalog is not None
    fields = experiment.text.model_dump(mode="json")
    asked = {name: fields[name] for name in _ASKED} | {"template": config.text, "prompt": config.prompt}
    if asked["vectors"] == "random":  # the encoder has no part in them
        asked = {name: asked[name] for name in ("vectors", "dimension", "template")}
    return {
        "format": FORMAT,
        "asked": asked,
        "catalog": config.catalog.path,
        "catalog_key": config.catalog.key,
        "catalog_fingerprint": catalog_fingerprint(entity, config),
    }


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a store; None where there is none.

    Raises:
        UserError: it cannot be read, or is of another version of foundrank.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    remedy = "Run `foundrank embed EXP --rebuild` to make the store anew."
    try:
        manifest = json.loads(path.read_text())
        held = manifest.get("format")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(path, f"the text store's manifest cannot be read: {error}", remedy) from error
    if held != FORMAT:
        raise UserError(path, f"the text store has format {held}, this version reads {FORMAT}", remedy)
    return manifest


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes or replaces the manifest of a store, in one step."""
    storage.write(folder / MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())


def open_text_store(folder: str | Path) -> TextStore:
    """Opens the text store of one entity, fetched first where it is elsewhere; the vectors stay on disk until touched.

    Raises:
        UserError: it is absent, incomplete or damaged.
        StorageError: it is in an object store that cannot be reached or refuses.
    """
    folder = Path(folder)
    fetch(folder)
    try:
        return _open(folder)
    except FileNotFoundError:
        return _open(folder)  # a job has just replaced the index that the manifest read here names


def _open(folder: Path) -> TextStore:
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(folder, f"no text store here: {MANIFEST} is missing", _REMEDY)
    for name in (VECTORS, str(manifest.get("index"))):
        if not (folder / name).is_file() and read_manifest(folder) == manifest:
            raise UserError(folder, f"no text store here: {name} is missing", _REMEDY)
    try:
        shape = (manifest["rows"], manifest["dimension"])
        with pq.ParquetFile(folder / manifest["index"]) as parquet:
            index = parquet.read()
        vectors = np.memmap(folder / VECTORS, "<f2", "r", shape=shape)
        keys, rows = index["key"].combine_chunks(), index["row"].combine_chunks().to_numpy()
        whole = len(keys) == manifest["keys"]
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowInvalid) as error:
        raise UserError(folder, f"the text store cannot be read: {error}", _REMEDY) from error
    if not whole or (len(rows) and not 0 <= rows.min() <= rows.max() < len(vectors)):
        raise UserError(folder, "the text store's files do not belong together", _REMEDY)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return TextStore(torch.from_numpy(vectors), keys, rows, manifest)


def check_text_store(store: TextStore, experiment: Experiment, entity: str) -> None:
    """Refuses a store that was made from another text, catalog or encoder than the experiment asks for.

    Raises:
        UserError: naming the field that differs and both values.
    """
    expected = expected_manifest(experiment, entity)
    folder = text_store_folder(experiment, entity)
    if changed := changes(store.manifest["asked"], expected["asked"]):
        raise UserError(
            folder,
            f"the vectors were made for another experiment ({'; '.join(changed)})",
            "Run `foundrank embed EXP`, which says what can be kept, or undo the change.",
        )
    if store.manifest["catalog_fingerprint"] != expected["catalog_fingerprint"]:
        raise UserError(
            folder,
            f"the catalog {expected['catalog']} has changed since its texts were embedded",
            "Run `foundrank embed EXP` again: it embeds what is new.",
        )


def changes(held: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """``name: old there, new here`` for each field that differs."""
    names = dict.fromkeys((*held, *wanted))
    return [f"{n}: {held.get(n)!r} there, {wanted.get(n)!r} here" for n in names if held.get(n) != wanted.get(n)]
