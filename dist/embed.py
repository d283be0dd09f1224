"""The embed job: every text of every catalog through the frozen language model, into the text store."""

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..data.catalog import read_catalog, render_texts
from ..data.errors import UserError
from ..data.experiment import EntityConfig, Experiment
from ..data.text_store import (
    damaged_files,
    expected_manifest,
    open_text_store,
    text_store_folder,
    write_manifest,
    write_text_store,
)
from ..model.text_encoder import TextEncoder, load_text_encoder
from .run_folder import check_can_be_made

BATCHES_PER_CHUNK = 16  # tokenised and sorted by length together


def embed(experiment: Experiment, console: Console | None = None) -> dict[str, Path]:
    """Write the text store of each entity that has a `text` template.

    A store that is whole and made from the same texts with the same weights is left alone. Equal texts are encoded
    once. Beyond the vectors (``[distinct texts, D]`` float16) and the catalog's text columns, memory is constant.

    Args:
        experiment: the experiment.
        console: where progress is shown; a new one on stderr when absent.

    Returns:
        Entity -> folder of its text store.

    Raises:
        UserError: a catalog, template or encoder is unusable, or a catalog has no text at all.
    """
    console = console or Console(stderr=True)
    entities = {name: config for name, config in experiment.entities.present().items() if config.text is not None}
    if not entities:
        return {}
    store = Path(experiment.text.store)
    check_can_be_made(store, f"text.store: {store}", "Choose a folder you can write to.")
    with console.status("loading the text encoder"):
        encoder = load_text_encoder(experiment.text)
    return {name: _embed_entity(experiment, name, config, encoder, console) for name, config in entities.items()}


def _embed_entity(
    experiment: Experiment, name: str, config: EntityConfig, encoder: TextEncoder, console: Console
) -> Path:
    folder = text_store_folder(experiment, name)
    with console.status(f"{name}: reading the catalog"):
        keys, row_of_key, texts = _distinct_texts(name, config)
    manifest = expected_manifest(experiment, name) | {
        "weights_sha256": encoder.weights_checksum,
        "texts_sha256": _fingerprint(keys, pa.array(row_of_key), texts),
    }
    if _up_to_date(folder, manifest):
        console.print(f"{name}: {len(texts):,} distinct texts, up to date in {folder}")
        return folder
    started = time.perf_counter()
    vectors = _encode(texts, encoder, name, console)
    seconds = time.perf_counter() - started
    write_text_store(folder, keys, row_of_key, vectors, manifest | {"precision": "bf16" if encoder.bf16 else "fp32"})
    rate = len(texts) / max(seconds, 1e-9)
    console.print(f"{name}: {len(texts):,} distinct texts of {len(keys):,} rows, {rate:,.0f} texts/s, in {folder}")
    return folder


def _distinct_texts(name: str, config: EntityConfig) -> tuple[pa.Array, np.ndarray, pa.Array]:
    """Keys that have a text ``[K]``, the row of each one's text ``[K]`` int32, and the distinct texts ``[N]``."""
    assert config.catalog is not None
    assert config.text is not None
    table = read_catalog(name, config, config.text_columns)
    encoded = render_texts(config.text, table).dictionary_encode()
    present = encoded.indices.is_valid()
    keys = pa.concat_arrays(table[config.catalog.key].chunks).filter(present)
    if not len(keys):
        raise UserError(
            f"entities.{name}.text: {config.text!r}",
            f"every row of {config.catalog.path} is empty there",
            "Name columns that hold text, or remove `text`.",
        )
    return keys, encoded.indices.filter(present).to_numpy(), encoded.dictionary


def _encode(texts: pa.Array, encoder: TextEncoder, name: str, console: Console) -> np.ndarray:
    vectors = np.empty((len(texts), encoder.size), np.float16)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f} texts/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"{name}: embedding", total=len(texts), rate=0.0)
        started = time.perf_counter()
        step = BATCHES_PER_CHUNK * encoder.config.batch_size
        for start in range(0, len(texts), step):
            part = texts[start : start + step].to_pylist()
            with np.errstate(over="ignore"):  # write_text_store refuses infinities, with a remedy
                vectors[start : start + step] = encoder.encode(part)
            done = start + len(part)
            progress.update(task, completed=done, rate=done / (time.perf_counter() - started))
    return vectors


def _up_to_date(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether the store holds the vectors wanted; renews its manifest where only names and places changed."""
    try:
        held = open_text_store(folder).manifest
    except UserError:
        return False
    names = ("encoder", "catalog", "catalog_key", "catalog_fingerprint", "template")
    made_of = {key: value for key, value in wanted.items() if key not in names}
    if any(held.get(key) != value for key, value in made_of.items()) or damaged_files(folder, held):
        return False
    if held != held | wanted:
        write_manifest(folder, held | wanted)
    return True


def _fingerprint(*arrays: pa.Array) -> str:
    """SHA-256 over the values of arrays without nulls, whatever their offsets and buffers."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{len(array)};".encode())
        if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            array = array.cast(pa.large_string())
            offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset :][: len(array) + 1]
            digest.update(offsets - offsets[0])
            digest.update(memoryview(array.buffers()[2] or b"")[offsets[0] : offsets[-1]])
        else:
            digest.update(array.to_numpy().astype(np.int64))
    return digest.hexdigest()
