"""The files of a code store as a tokenize job finds and leaves them, here or in a bucket."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...data.codes.code_store import CODEBOOK, MANIFEST, WORK, expected_codes, open_codes, read_codes_manifest
from ...data.config.experiment import Experiment
from ...data.config.sections.entities import Stored
from ...data.contents.content_store import changes
from ...data.contents.store_writer import make_store
from ...data.errors import UserError
from ...data.storage import storage
from ...data.storage.mirror import fetch, origin, publish_changed, remove_original


def begin(folder: Path, experiment: Experiment, of: Stored, rebuild: bool) -> dict[str, Any]:
    """Fetches what is there, and makes sure that it can be added to."""
    fetch(folder, lambda name: not name.startswith(f"{WORK}/"))  # what an interrupted job has done stays
    make_store(folder)
    expected = expected_codes(experiment, of)
    check_can_go_on(folder, expected, rebuild)
    return expected


def check_can_go_on(folder: Path, expected: dict[str, Any], rebuild: bool) -> None:
    """Makes sure that codes as ``expected`` may be added to what a folder holds.

    Raises:
        UserError: it holds codes that were made in another way.
    """
    held = None if rebuild else read_codes_manifest(folder)
    if held is not None and (changed := changes(held["asked"], expected["asked"])):
        raise UserError(
            folder,
            f"holds codes that were made in another way ({'; '.join(changed)})",
            "Run `foundrank tokenize EXP --rebuild` to make them anew, for which runs have to be trained anew too, or undo the change.",
        )


def held_codes(folder: Path) -> tuple[pa.Array | None, np.ndarray | None, dict[str, Any] | None]:
    """Keys ``[C]``, codes ``[C, M]`` uint16 and manifest of what is there; None each where nothing is."""
    if read_codes_manifest(folder) is None:
        return None, None, None
    opened, manifest = open_codes(folder)
    keys = pq.read_table(opened.index_file)["key"].combine_chunks()
    return keys, opened.mapped().vectors.numpy().view(np.uint16).copy(), manifest


def codebook_of(folder: Path, manifest: dict[str, Any]) -> bytes:
    """The codebook that the codes there were made with."""
    path = folder / CODEBOOK.format(manifest["codebook_sha256"][:16])
    if (content := storage.read(path)) is None:
        raise UserError(path, "is missing", "Run `foundrank tokenize EXP --rebuild`, and train again.")
    if hashlib.sha256(content).hexdigest() != manifest["codebook_sha256"]:
        remedy = "Bring it back, or run `foundrank tokenize EXP --rebuild` and train again."
        raise UserError(path, "is damaged: it is not what was written", remedy)
    return content


def publish(folder: Path) -> None:
    """Writes a mirror's finished store to the bucket, its manifest last."""
    if (uri := origin(folder)) is None:
        return
    names = sorted((path.name for path in folder.iterdir() if path.is_file()), key=lambda name: name == MANIFEST)
    publish_changed(folder, names)
    for name in storage.listing(uri).keys() - set(names):
        remove_original(folder / name)
