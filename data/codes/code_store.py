"""The code store: what ``foundrank tokenize`` made of a catalog's items, beside the content store.

One folder per content, ``item_codes`` for a content of the name ``codes``::

    <store>/item_codes/codes-<sha256>.u16             uint16 [C, M], little-endian, no header: one row per item
    <store>/item_codes/index-<sha256>.parquet         key (the catalog's id type), row (into codes)
    <store>/item_codes/codebook-<sha256>.safetensors  what codes of further items are made with
    <store>/item_codes/manifest.json                  what codes were made from and with, sizes, checksums, how well they tell apart
    <store>/item_codes/work/                          what an unfinished job has done so far; readers know nothing of it

The manifest is replaced last and in one step. Items are only ever added, with the codebook that is there; codes that are made anew
are others, and a run that was trained with the old ones says so.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from ..arrow.ids import id_keys
from ..catalogs.catalog_files import catalog_fingerprint
from ..config.experiment import Experiment
from ..config.sections.entities import Stored
from ..content_kinds.codes import MOST_VALUES, Codes
from ..contents.content_store import Count, Digest, changes, read_only, sha256_of_file
from ..contents.content_table import ContentTable
from ..errors import UserError, one_line
from ..schema.layout import content_key
from ..storage import storage
from ..storage.json_documents import Shape, read_document
from ..storage.local_writes import refuse_links
from ..storage.mirror import fetch, mirrored
from ..storage.parquet_memory import READ_ERRORS, check_size
from ..vocabulary.vocabulary import KeyIndex

MANIFEST, WORK = "manifest.json", "work"
CODES, INDEX, CODEBOOK = "codes-{}.u16", "index-{}.parquet", "codebook-{}.safetensors"
FORMAT = 1
"""Of the store."""
REMEDY = "Run `foundrank tokenize EXP` to make it."
BYTES_OF_A_CODE = 2
_KEYS = (pa.string(), pa.int64(), pa.uint64())


class Level(Shape):
    """How the items are spread over the values of a level: in bits, of ``values``, of which ``dead`` are no item's."""

    values: Annotated[int, Field(ge=2, le=MOST_VALUES)]
    entropy: Annotated[float, Field(ge=0)]
    dead: Count


class Manifest(Shape):
    """``manifest.json``."""

    asked: dict[str, Any]
    catalog_fingerprint: str
    rows: Count
    levels: Annotated[list[Level], Field(min_length=1)]
    alike: Count  # items that have their codes together with others
    largest: Count  # so many have the same, at most
    codes_sha256: Digest
    index_sha256: Digest
    codebook_sha256: Digest
    identity: Digest


@dataclass(frozen=True)
class OpenedCodes:
    """What is read of a code store; the codes stay in their file, for each process to map.

    Attributes:
        file: the store's codes, on this machine.
        index_file: its keys and their rows, in the catalog's type and order.
        shape: C and M.
        index: of its keys.
        row_of_key: ``[K]`` int64 rows of the codes, in the order of the index.
    """

    file: Path
    index_file: Path
    shape: tuple[int, int]
    index: KeyIndex
    row_of_key: np.ndarray

    def keys(self) -> np.ndarray:
        """``[C]`` uint64 of the items that have codes."""
        return id_keys(pq.read_table(self.index_file, columns=["key"])["key"])[0]

    def mapped(self) -> ContentTable:
        """Codes as a content, int16 ``[C, M]``."""
        return ContentTable(read_only(map_codes(self.file, self.shape).view(np.int16)), self.index, self.row_of_key)


def codes_folder(experiment: Experiment, of: Stored) -> Path:
    """Where a content's codes are, or are fetched to."""
    return mirrored(experiment.text.store, "read") / of.name


def map_codes(file: Path, shape: tuple[int, int]) -> np.ndarray:
    """``[C, M]`` uint16 over the mapped file; of no item an empty array, for which there is nothing to map."""
    if not shape[0]:
        return np.zeros(shape, "<u2")
    return np.memmap(file, "<u2", "r", shape=shape)


def inputs_asked(experiment: Experiment, of: Stored, content: Codes) -> dict[str, Any]:
    """What the contents that codes are made of are, as JSON values."""
    entity = experiment.entities.present()[of.entity]
    return {
        name: {"vector": other.vector, "size": other.size}
        if (other := entity.given(in_catalog=True).get(name)) is not None
        else experiment.encoder_of(embedded := experiment.entities.embedded()[Stored(of.entity, name)]).asked()
        | embedded.asked()
        for name in experiment.inputs_of(content)
    }


def expected_codes(experiment: Experiment, of: Stored) -> dict[str, Any]:
    """The part of the manifest that the experiment and the catalog's files determine.

    Raises:
        UserError: the catalog's files are missing or not Parquet.
    """
    entity = experiment.entities.present()[of.entity]
    content = entity.every_content()[of.content]
    assert isinstance(content, Codes)
    assert entity.catalog is not None
    return {
        "format": FORMAT,
        "asked": {**content.codes.asked(), "inputs": inputs_asked(experiment, of, content)},
        "catalog": entity.catalog.path,
        "catalog_key": entity.catalog.key,
        "catalog_fingerprint": catalog_fingerprint(of.entity, entity),
    }


def read_codes_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a code store; None where there is none.

    Raises:
        UserError: it cannot be read, or is of another version of foundrank.
    """
    path, remedy = folder / MANIFEST, "Run `foundrank tokenize EXP --rebuild` to make the store anew."
    if not path.is_file():
        return None
    held = read_document(path, dict[str, Any], remedy).get("format")
    if held != FORMAT:
        raise UserError(path, f"the code store has format {held}, this version reads {FORMAT}", remedy)
    return read_document(path, Manifest, remedy)


def open_codes(folder: Path) -> tuple[OpenedCodes, dict[str, Any]]:
    """Opens the codes of one content, fetched first where they are elsewhere, and their manifest.

    Raises:
        UserError: they are absent, incomplete or damaged.
        StorageError: they are in an object store that cannot be reached or refuses.
    """
    fetch(folder, lambda name: not name.startswith(f"{WORK}/"))
    try:
        return _open(folder)
    except FileNotFoundError:
        return _open(folder)  # a job has just replaced the files that the manifest read here names


def _open(folder: Path) -> tuple[OpenedCodes, dict[str, Any]]:
    manifest = read_codes_manifest(folder)
    if manifest is None:
        raise UserError(folder, f"no codes here: {MANIFEST} is missing", REMEDY)
    shape = manifest["rows"], len(manifest["levels"])
    codes, index = (
        folder / name.format(manifest[f"{what}_sha256"][:16]) for name, what in ((CODES, "codes"), (INDEX, "index"))
    )
    for path, what in ((codes, "codes_sha256"), (index, "index_sha256")):
        if not path.is_file():
            if read_codes_manifest(folder) != manifest:
                raise FileNotFoundError(path)
            raise UserError(folder, f"{path.name} is missing", REMEDY)
        if sha256_of_file(path) != manifest[what]:
            raise UserError(path, "is damaged: it is not what was written", REMEDY)
    try:
        with pq.ParquetFile(index) as parquet:
            check_size(parquet, range(parquet.num_row_groups), ["key", "row"], index)
            table = parquet.read(["key", "row"])
        keys, rows = table["key"].combine_chunks(), table["row"].combine_chunks().to_numpy()
        whole = keys.type in _KEYS and not keys.null_count and rows.dtype == np.int64
        whole &= not (rows.min(initial=0) < 0 or rows.max(initial=-1) >= shape[0])
        whole &= codes.stat().st_size == shape[0] * shape[1] * BYTES_OF_A_CODE
    except FileNotFoundError:
        raise
    except (*READ_ERRORS, ValueError, KeyError, TypeError) as error:
        raise UserError(folder, f"the code store cannot be read: {one_line(error)}", REMEDY) from error
    if not whole:
        raise UserError(folder, "the code store's files do not belong together", REMEDY)
    return OpenedCodes(codes, index, shape, KeyIndex(id_keys(keys)[0]), rows), manifest


def check_codes(manifest: Mapping[str, Any], experiment: Experiment, of: Stored) -> None:
    """Refuses codes that were made in another way, or from another catalog, than the experiment asks for.

    Raises:
        UserError: naming the setting that differs and both values.
    """
    expected, folder = expected_codes(experiment, of), codes_folder(experiment, of)
    if changed := changes(dict(manifest["asked"]), expected["asked"]):
        raise UserError(
            folder,
            f"the codes were made for another experiment ({'; '.join(changed)})",
            "Run `foundrank tokenize EXP --rebuild`, or undo the change.",
        )
    if manifest["catalog_fingerprint"] != expected["catalog_fingerprint"]:
        raise UserError(
            folder,
            f"the catalog {expected['catalog']} has changed since its items were tokenized",
            "Run `foundrank tokenize EXP` again: it gives codes to what is new.",
        )


def codes_identity(folder: Path) -> dict[str, Any]:
    """What tells codes from any others, as a `FileIdentity`.

    Raises:
        UserError: they are absent or damaged.
        StorageError: they are in an object store that cannot be reached or refuses.
    """
    fetch(folder)
    if (manifest := read_codes_manifest(folder)) is None:
        raise UserError(folder, f"no codes here: {MANIFEST} is missing", REMEDY)
    checksum = hashlib.sha256((manifest["codes_sha256"] + manifest["index_sha256"]).encode()).hexdigest()
    return {"file": str(folder / MANIFEST), "bytes": 0, "checksum": checksum}


def commit_codes(
    folder: Path, keys: pa.Array, codes: np.ndarray, codebook: bytes, manifest: dict[str, Any], identity: str | None
) -> dict[str, Any]:
    """Makes codes count, in one step, and removes what was there.

    Args:
        folder: of the store; there.
        keys: ``[C]`` int64, uint64 or string, the row of each being its place.
        codes: ``[C, M]`` uint16.
        codebook: a safetensors file.
        manifest: what the codes were made from and with, and how well they tell apart; checksums are added here.
        identity: of the codes that these are more of; None: they are others.

    Returns:
        The manifest.
    """
    refuse_links(folder, files=True)
    index = pa.BufferOutputStream()
    pq.write_table(
        pa.table({"key": keys, "row": pa.array(np.arange(len(keys)), pa.int64())}), index, compression="zstd"
    )
    files = {
        "codes": (CODES, np.ascontiguousarray(codes, "<u2").tobytes()),
        "index": (INDEX, index.getvalue().to_pybytes()),
        "codebook": (CODEBOOK, codebook),
    }
    sums = {name: hashlib.sha256(content).hexdigest() for name, (_, content) in files.items()}
    named = {name: pattern.format(sums[name][:16]) for name, (pattern, _) in files.items()}
    for name, (_, content) in files.items():
        storage.write(folder / named[name], content)
    told = json.dumps([manifest["asked"], sums], sort_keys=True)
    full = manifest | {
        "format": FORMAT,
        "rows": len(codes),
        **{f"{name}_sha256": value for name, value in sums.items()},
    }
    full["identity"] = identity or hashlib.sha256(told.encode()).hexdigest()
    storage.write(folder / MANIFEST, (json.dumps(full, indent=1, ensure_ascii=False) + "\n").encode())
    for name in os.listdir(folder):
        if name not in (MANIFEST, WORK, *named.values()) and not (folder / name).is_dir():
            (folder / name).unlink(missing_ok=True)
    return full


def open_coded(experiment: Experiment, trained_with: Mapping[str, str]) -> dict[str, OpenedCodes]:
    """The codes that the model reads, by their names in ``Batch.vectors``.

    Args:
        experiment: the experiment.
        trained_with: `Stored.name` -> `identities` of the codes that training has seen.

    Raises:
        UserError: codes are absent, were made in another way, or are not those of the training.
    """
    found = {}
    for of in experiment.coded():
        folder = codes_folder(experiment, of)
        found[content_key(*of)], manifest = open_codes(folder)
        check_codes(manifest, experiment, of)
        if trained_with.get(of.name, manifest["identity"]) != manifest["identity"]:
            raise UserError(
                folder,
                "the codes were made anew since the run was trained, and mean something else now",
                "Train again, or bring back the codes as they were.",
            )
    return found


def identities(experiment: Experiment) -> dict[str, str]:
    """`Stored.name` of codes that the model reads -> what tells them from codes made anew; further items leave it as it is.

    Raises:
        UserError: codes are absent.
    """
    return {of.name: open_codes(codes_folder(experiment, of))[1]["identity"] for of in experiment.coded()}
