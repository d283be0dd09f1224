"""The content store: an encoder's vectors of a catalog's texts and other contents, written once, memory-mapped by every reader.

One folder per content, ``item`` for the item's `text` and ``item_title`` for another one. What is embedded is called a text here,
whatever it is::

    <store>/item/vectors.f16            float16 [N, D], little-endian, no header: one row per distinct text
    <store>/item/texts.b16              [N, 16] bytes: the BLAKE2b digest of each row's text
    <store>/item/index-<sha256>.parquet key (the catalog's id type), row (into vectors); keys without text are absent
    <store>/item/pca.safetensors        mean and directions, where the vectors were reduced by PCA
    <store>/item/manifest.json          what the vectors were made from and with, sizes and checksums
    <store>/item/work/                  what an unfinished job has done so far; readers know nothing of it

The manifest is replaced last and in one step. It says how many rows count, so a job may append beyond them while the
store is being read, and a job that dies leaves the store as it was.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field

from ..catalogs.catalog_files import catalog_fingerprint
from ..config.experiment import Experiment
from ..config.sections.entities import Stored
from ..errors import UserError, one_line
from ..storage import storage
from ..storage.json_documents import Shape, read_document, sum_of
from ..storage.mirror import fetch, mirrored
from ..storage.parquet_memory import READ_ERRORS, check_size

VECTORS, DIGESTS, MANIFEST, PCA, WORK = "vectors.f16", "texts.b16", "manifest.json", "pca.safetensors", "work"
FORMAT = 2
_KEYS = (pa.string(), pa.int64(), pa.uint64())
_REMEDY = "Run `foundrank embed EXP` to write it."

Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Written(Shape):
    """What is known of a finished shard: rows, SHA-256 of its texts' digests and of its bytes, texts that were cut, and row -> what is
    wrong, where the encoder found nothing it can encode."""

    rows: Count
    texts: Digest
    vectors: Digest
    cut: Count
    bad: dict[str, str] = Field(default_factory=dict)


class Absent(Shape):
    """Rows whose input could not be had, and the first of the inputs."""

    rows: Count
    first: list[str]


class Manifest(Shape):
    """``manifest.json``."""

    asked: dict[str, Any] = Field(default_factory=dict)
    made_with: dict[str, Any]
    catalog_fingerprint: str = ""
    rows: Count
    dimension: Annotated[int, Field(ge=1)]
    keys: Count
    index: Annotated[str, Field(pattern=r"^index-[0-9a-f]{16}\.parquet$")]
    index_sha256: Digest
    texts_sha256: Digest
    shards: list[Written]
    missing: dict[str, Absent] = Field(default_factory=dict)


@dataclass(frozen=True)
class ContentStore:
    """The opened store of one content.

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
        """D, the width of a vector."""
        return self.vectors.shape[1]


def store_folder(experiment: Experiment, of: Stored) -> Path:
    """Where a content's vectors are, or are fetched to; those of other encoders lie beside the language model's."""
    suffix = experiment.encoder_of(experiment.entities.embedded()[of]).suffix
    return mirrored(experiment.text.store, "read") / f"{of.name}{suffix}"


def expected_manifest(experiment: Experiment, of: Stored) -> dict[str, Any]:
    """The part of the manifest that the experiment and the catalog's files determine.

    Raises:
        UserError: the catalog's files are missing or not Parquet.
    """
    config, content = experiment.entities.present()[of.entity], experiment.entities.embedded()[of]
    assert config.catalog is not None
    return {
        "format": FORMAT,
        "asked": experiment.encoder_of(content).asked() | content.asked(),
        "catalog": config.catalog.path,
        "catalog_key": config.catalog.key,
        "catalog_fingerprint": catalog_fingerprint(of.entity, config),
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
    held = read_document(path, dict[str, Any], remedy).get("format")
    if held != FORMAT:
        raise UserError(path, f"the content store has format {held}, this version reads {FORMAT}", remedy)
    manifest = read_document(path, Manifest, remedy)
    if sum(shard["rows"] for shard in manifest["shards"]) != manifest["rows"]:
        raise UserError(path, "is damaged (its shards are not as many rows as it has)", remedy)
    return manifest


def sha256_of_file(path: Path) -> str:
    """Hex digest of a file's bytes; empty where there is no file."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def missing_told(manifest: Mapping[str, Any]) -> str | None:
    """What there is to tell of the inputs that a catalog names and that could not be had; None where there are none."""
    missing = manifest.get("missing", {})
    if not missing:
        return None
    rows = sum(of_reason["rows"] for of_reason in missing.values())
    why = [f"{of_reason['rows']:,} {reason} ({', '.join(of_reason['first'])})" for reason, of_reason in missing.items()]
    return f"{rows:,} rows have none: {'; '.join(why)}"


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes or replaces the manifest of a store, in one step."""
    storage.write(folder / MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())


def open_store(folder: str | Path) -> ContentStore:
    """Opens the store of one content, fetched first where it is elsewhere; the vectors stay on disk until touched.

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


def stored_vectors(folder: Path, manifest: Mapping[str, Any]) -> torch.Tensor:
    """``[rows, dimension]`` float16 over the mapped file of a store on this machine, whose manifest this is."""
    return read_only(np.memmap(folder / VECTORS, "<f2", "r", shape=(manifest["rows"], manifest["dimension"])))


def read_only(vectors: np.ndarray) -> torch.Tensor:
    """A tensor over the memory of an array, which nobody will write to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return torch.from_numpy(vectors)


def store_identity(folder: Path) -> dict[str, Any]:
    """What tells the vectors and keys of a store from any others, as a `FileIdentity`: a hash of their checksums.

    Raises:
        UserError: it is absent or damaged.
        StorageError: it is in an object store that cannot be reached or refuses.
    """
    fetch(folder)
    if (manifest := read_manifest(folder)) is None:
        raise UserError(folder, f"no content store here: {MANIFEST} is missing", _REMEDY)
    parts = {name: manifest[name] for name in ("rows", "dimension", "index_sha256", "texts_sha256", "shards")}
    return {"file": str(folder / MANIFEST), "bytes": 0, "checksum": sum_of(parts)}


def _open(folder: Path) -> ContentStore:
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(folder, f"no content store here: {MANIFEST} is missing", _REMEDY)
    for name in (VECTORS, str(manifest.get("index"))):
        if not (folder / name).is_file() and read_manifest(folder) == manifest:
            raise UserError(folder, f"no content store here: {name} is missing", _REMEDY)
    try:
        if sha256_of_file(folder / manifest["index"]) != manifest["index_sha256"]:
            raise ValueError(f"{manifest['index']} is not what was written")
        with pq.ParquetFile(folder / manifest["index"]) as parquet:
            check_size(parquet, range(parquet.num_row_groups), ["key", "row"], folder / manifest["index"])
            index = parquet.read(["key", "row"])
        vectors = stored_vectors(folder, manifest)
        keys, rows = index["key"].combine_chunks(), index["row"].combine_chunks().to_numpy()
        whole = len(keys) == manifest["keys"] and not keys.null_count and keys.type in _KEYS
        whole &= rows.dtype in (np.int32, np.int64) and not (
            rows.min(initial=0) < 0 or rows.max(initial=-1) >= len(vectors)
        )
    except FileNotFoundError:
        raise
    except (*READ_ERRORS, ValueError, KeyError, TypeError) as error:
        raise UserError(folder, f"the content store cannot be read: {one_line(error)}", _REMEDY) from error
    if not whole:
        raise UserError(folder, "the content store's files do not belong together", _REMEDY)
    return ContentStore(vectors, keys, rows, manifest)


def check_store(store: ContentStore, experiment: Experiment, of: Stored) -> None:
    """Refuses a store that was made from another template, catalog or encoder than the experiment asks for.

    Raises:
        UserError: naming the field that differs and both values.
    """
    expected = expected_manifest(experiment, of)
    folder = store_folder(experiment, of)
    if changed := changes(store.manifest.get("asked", {}), expected["asked"]):
        raise UserError(
            folder,
            f"the vectors were made for another experiment ({'; '.join(changed)})",
            "Run `foundrank embed EXP`, which says what can be kept, or undo the change.",
        )
    if store.manifest.get("catalog_fingerprint") != expected["catalog_fingerprint"]:
        raise UserError(
            folder,
            f"the catalog {expected['catalog']} has changed since its texts were embedded",
            "Run `foundrank embed EXP` again: it embeds what is new.",
        )


def changes(held: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """``name: old there, new here`` for each field that differs."""
    names = dict.fromkeys((*held, *wanted))
    return [f"{n}: {held.get(n)!r} there, {wanted.get(n)!r} here" for n in names if held.get(n) != wanted.get(n)]
