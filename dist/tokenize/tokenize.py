"""The tokenize job: codes for every item of the catalog, into the code store."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load, save

from ...data.arrow.ids import id_keys
from ...data.codes.code_store import (
    CODEBOOK,
    codes_folder,
    commit_codes,
    expected_codes,
    open_codes,
    read_codes_manifest,
)
from ...data.codes.code_table import export_codes
from ...data.codes.quality import spread_over_levels
from ...data.config.experiment import Experiment
from ...data.config.sections.entities import Stored
from ...data.content_kinds.codes import Codes
from ...data.contents.content_store import changes
from ...data.contents.store_writer import make_store
from ...data.errors import UserError
from ...data.storage import storage
from ...data.storage.file_systems import is_uri
from ...data.storage.mirror import fetch, mirrored, origin, publish_changed, remove_original, shown
from ...data.storage.new_folder import check_can_be_made
from ...data.storage.storage import check_writable
from ...model.tokenizers.columns import Columns
from ...model.tokenizers.given import Given
from ...model.tokenizers.items import Codebook, Items
from ...model.tokenizers.rq_kmeans import RqKmeans
from ...model.tokenizers.rq_vae import RqVae
from ..logs import prometheus
from ..logs.progress import Progress
from ..logs.records import info, warning
from ..ranks.environment import of_machine
from ..ranks.runtime import Runtime, patiently, threads_kept
from .inputs import Sources, sources
from .unique import deal_out, digits, quality
from .work import Work

_CROWDED = 0.05  # share of the items that have their codes with others, from which on it is told as a warning


def tokenize(
    experiment: Experiment, runtime: Runtime, rebuild: bool = False, export: str | None = None
) -> dict[str, dict[str, Any]]:
    """Writes the codes of each content that is codes, or adds those of items that are new in the catalog.

    What is there keeps its codes, as runs may have been trained with them; a codebook is fitted once. A job that was stopped goes on
    where it was, on any number of ranks; the bytes of the store do not depend on either.

    Args:
        experiment: the experiment.
        runtime: the ranks; blocks of items are dealt to them.
        rebuild: makes codes anew, codebook included.
        export: Parquet file, or its URI, that the codes are written to as well; of one content.

    Returns:
        `Stored.name` of each content -> manifest of its store.

    Raises:
        UserError: there are no codes in the experiment, inputs are missing, codes were made in another way, or too many items have
            the same.
    """
    prometheus.label(command="tokenize", experiment=experiment.name)
    contents = {Stored("item", name): content for name, content in experiment.entities.item.codes().items()}
    check_tokenizing(experiment, export)
    uri = experiment.text.store
    runtime.on_main(lambda: _check_store(uri, runtime))
    found = {}
    with patiently(runtime) as ranks, threads_kept():
        torch.set_num_threads(1)  # the same bits on any number of cores
        for of, content in contents.items():
            found[of.name] = _tokenize(experiment, of, content, ranks, rebuild)
            if export is not None:
                ranks.on_main(lambda of=of: export_codes(codes_folder(experiment, of), export))
    return found


def check_tokenizing(experiment: Experiment, export: str | None) -> None:
    """Makes sure that there is something to do.

    Raises:
        UserError: the experiment has no codes, or several where one is to be exported.
    """
    contents = experiment.entities.item.codes()
    if not contents:
        raise UserError(
            "entities.item.contents",
            "has no codes, so there is nothing to tokenize",
            "Add one, e.g. contents: {codes: {codes: rq_kmeans}}.",
        )
    if export is not None and len(contents) > 1:
        raise UserError(
            "--export",
            f"is one file, and there are several codes: {', '.join(contents)}",
            "Export one at a time, or leave it out.",
        )


def _check_store(location: str, runtime: Runtime) -> None:
    store = mirrored(location, "work")
    if is_uri(location) and of_machine()[1] != runtime.world_size:
        raise UserError(
            f"text.store: {location}",
            "is in an object store, where ranks of several machines cannot write one file",
            "Tokenize on one machine, or on several into a folder that all of them see.",
        )
    check_can_be_made(store, f"text.store: {store}", "Choose a folder you can write to.")
    if is_uri(location):
        check_writable(location)
    make_store(store)


def _tokenize(experiment: Experiment, of: Stored, content: Codes, runtime: Runtime, rebuild: bool) -> dict[str, Any]:
    folder = mirrored(experiment.text.store, "work") / of.name
    expected = runtime.on_main(lambda: _begin(folder, experiment, of, rebuild))
    with Progress(f"{of}: reading", main=runtime.is_main):
        every = sources(experiment, of, content, runtime)
    keys, codes, held = _held(folder) if not rebuild else (None, None, None)
    fits = every.with_something & (content.codes.known(_bare(every)) if isinstance(content.codes, Given) else True)
    new = fits if keys is None else fits & ~np.isin(every.keys, id_keys(keys)[0])
    at = np.flatnonzero(new)
    at = at[np.argsort(every.keys[at], kind="stable")]  # not the catalog's order, which may tell what came when
    work = Work(folder, json.dumps([expected["asked"], held and held["identity"], every.keys[at].tobytes().hex()]))
    if not len(at) and held is not None and held["catalog_fingerprint"] == expected["catalog_fingerprint"]:
        _tell(of, held, 0, runtime)
        return held
    runtime.on_main(work.begin)
    codebook = work.codebook if held is None else load(_codebook_of(folder, held))
    runtime.barrier()
    if codebook is None:
        codebook = _fitted(of, content, every, np.flatnonzero(fits), runtime)
        runtime.on_main(lambda: work.keep_codebook(codebook))
    elif isinstance(content.codes, Columns):
        codebook = content.codes.extended(codebook, every.items(codebook, runtime, lambda items: None))
    own = _codes_of(of, content, every, at, codebook, work, runtime)
    manifest = runtime.on_main(
        lambda: _commit(folder, expected, content, every, at, own, codebook, (keys, codes, held), runtime)
    )
    runtime.on_main(work.end)
    runtime.on_main(lambda: _publish(folder))
    _tell(of, manifest, len(at), runtime)
    return manifest


def _begin(folder: Path, experiment: Experiment, of: Stored, rebuild: bool) -> dict[str, Any]:
    """Fetches what is there, and makes sure that it can be added to."""
    fetch(folder)
    make_store(folder)
    expected = expected_codes(experiment, of)
    held = None if rebuild else read_codes_manifest(folder)
    if held is not None and (changed := changes(held["asked"], expected["asked"])):
        raise UserError(
            folder,
            f"holds codes that were made in another way ({'; '.join(changed)})",
            "Run `foundrank tokenize EXP --rebuild` to make them anew, for which runs have to be trained anew too, or undo the change.",
        )
    return expected


def _held(folder: Path) -> tuple[pa.Array | None, np.ndarray | None, dict[str, Any] | None]:
    """Keys, codes and manifest of what is there."""
    if read_codes_manifest(folder) is None:
        return None, None, None
    opened, manifest = open_codes(folder)
    keys = pq.read_table(opened.index_file)["key"].combine_chunks()
    return keys, opened.mapped().vectors.numpy().view(np.uint16).copy(), manifest


def _codebook_of(folder: Path, manifest: dict[str, Any]) -> bytes:
    path = folder / CODEBOOK.format(manifest["codebook_sha256"][:16])
    if (content := storage.read(path)) is None:
        raise UserError(path, "is missing", "Run `foundrank tokenize EXP --rebuild`, and train again.")
    return content


def _bare(every: Sources) -> Items:
    return Items(every.keys, None, every.columns, every.seed)


def _fitted(of: Stored, content: Codes, every: Sources, at: np.ndarray, runtime: Runtime) -> Codebook:
    """The codebook, fitted on the items at some positions."""
    some = every if len(at) == len(every.keys) or every.graph is not None else every.take(at)
    scales = some.standardised(runtime)
    progress = Progress(f"{of}: fitting the codebook", "items", main=runtime.is_main)
    with progress:
        items = some.items(scales, runtime, lambda done: progress.add(done * runtime.world_size))
        return scales | content.codes.fit(items)


def _codes_of(
    of: Stored, content: Codes, every: Sources, at: np.ndarray, codebook: Codebook, work: Work, runtime: Runtime
) -> np.ndarray:
    """``[n, L]`` uint16 codes of items at positions ``[n]``, each rank's blocks made by it, on rank 0; elsewhere nothing."""
    levels, step = len(content.codes.values), 1 << 12
    starts = list(range(0, len(at), step))
    progress = Progress(f"{of}: tokenizing", "items", len(at), "tokenizing", runtime.is_main)
    with progress:
        items = every.items(codebook, runtime, lambda done: None)
        for start in starts[runtime.rank :: runtime.world_size]:
            block = at[start : start + step]
            if work.block(start, levels) is None:
                work.keep_block(start, content.codes.codes(codebook, items, block))
            progress.add(len(block) * runtime.world_size)
    runtime.barrier()
    if not runtime.is_main:
        return np.zeros((0, levels), np.uint16)
    parts = [work.block(start, levels) for start in starts]
    if any(part is None for part in parts):
        raise UserError(
            work.folder, "lacks what another rank has written", "Give the ranks a text.store that all of them see."
        )
    return np.concatenate([np.zeros((0, levels), np.uint16), *(part for part in parts if part is not None)])


def _commit(
    folder: Path,
    expected: dict[str, Any],
    content: Codes,
    every: Sources,
    at: np.ndarray,
    own: np.ndarray,
    codebook: Codebook,
    before: tuple[pa.Array | None, np.ndarray | None, dict[str, Any] | None],
    runtime: Runtime,
) -> dict[str, Any]:
    """Tells alike items apart and makes all codes count; on rank 0."""
    method, (held_keys, held_codes, held) = content.codes, before
    ids, levels, many = every.ids.take(pa.array(at)), len(method.values), 0
    own = own.astype(np.int64)
    if held_keys is not None and held_codes is not None:
        many = len(held_codes)
        ids = pa.concat_arrays([held_keys, ids.cast(held_keys.type)])
        own = np.concatenate([held_codes[:, :levels].astype(np.int64), own])
    keys = id_keys(ids)[0]
    if method.unique == "sinkhorn":
        assert isinstance(method, RqKmeans | RqVae)
        items = every.items(codebook, runtime, lambda done: None)
        own = deal_out(own, keys, many, method.values[-1], lambda some: method.last(codebook, items, at[some - many]))
    if method.unique == "digit":
        held_digits = held_codes[:, levels:] if held_codes is not None else np.zeros((0, method.digits))
        own = np.concatenate([own, digits(own, keys, held_digits, method.digits)], 1)
    bytes_of = save({name: value.contiguous() for name, value in codebook.items()})
    told = quality(own, method.sizes)
    return commit_codes(folder, ids, own, bytes_of, expected | told, None if held is None else held["identity"])


def _publish(folder: Path) -> None:
    """Writes a mirror's finished store to the bucket, its manifest last."""
    if (uri := origin(folder)) is None:
        return
    names = sorted((path.name for path in folder.iterdir() if path.is_file()), key=lambda name: name == "manifest.json")
    publish_changed(folder, names)
    for name in storage.listing(uri).keys() - set(names):
        remove_original(folder / name)


def _tell(of: Stored, manifest: dict[str, Any], new: int, runtime: Runtime) -> None:
    if not runtime.is_main:
        return
    levels, alike = manifest["levels"], manifest["alike"]
    bits, dead = spread_over_levels(levels)
    shared = "no two alike" if not alike else f"{alike:,} not told apart, up to {manifest['largest']:,} alike"
    fields = {"entity": of.entity, "content": of.content, "new": new, "rows": manifest["rows"], "alike": alike}
    info(
        shown(f"{of}: {manifest['rows']:,} items, {new:,} of them new; {len(levels)} levels, {shared}"),
        "codes",
        **fields,
    )
    info(f"{of}: bits used of each level {bits}; values without an item {dead}", "code_levels", levels=levels)
    if alike > _CROWDED * manifest["rows"]:
        warning(
            f"{of}: {alike / manifest['rows']:.0%} of the items have their codes with others, and rank as one with them"
        )
