"""The tokenize job: codes for every item of the catalog, into the code store."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load, save

from ...data.arrow.ids import id_keys
from ...data.codes.code_store import codes_folder, commit_codes
from ...data.codes.code_table import export_codes, read_code_table
from ...data.codes.quality import spread_over_levels
from ...data.config.experiment import Experiment
from ...data.config.sections.entities import Stored
from ...data.content_kinds.codes import Codes, OfVectors
from ...data.contents.content_store import store_folder, store_identity
from ...data.contents.store_writer import make_store
from ...data.errors import UserError
from ...data.events.check_events import check_events
from ...data.storage.file_identity import identities
from ...data.storage.file_systems import is_uri
from ...data.storage.mirror import mirrored, shown
from ...data.storage.new_folder import check_can_be_made
from ...data.vocabulary.vocabulary import KeyIndex
from ...model.tokenizers.columns import Columns
from ...model.tokenizers.given import Given
from ...model.tokenizers.items import Codebook, Items
from ...model.tokenizers.rq_kmeans import RqKmeans
from ...model.tokenizers.rq_vae import RqVae
from ...model.tokenizers.tree import Tree
from ..embed.store_check import check_store_place
from ..logs import prometheus
from ..logs.progress import Progress
from ..logs.records import info, warning
from ..ranks.runtime import Runtime, patiently, threads_kept
from ..run.kept_checkpoints import best_of_members, identity
from ..run.run_folder import fetch_run
from .code_files import begin, codebook_of, held_codes, publish
from .inputs import PLACED, PLACES, Sources, sources
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
    runtime.on_main(lambda: check_store_place(uri, "Tokenize", runtime))
    runtime.on_main(lambda: make_store(mirrored(uri, "work")))
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
    if export is not None and not is_uri(export):
        check_can_be_made(Path(export).parent, "--export", "Choose a folder you can write to.")
    if export is not None and len(contents) > 1:
        raise UserError(
            "--export",
            f"is one file, and there are several codes: {', '.join(contents)}",
            "Export one at a time, or leave it out.",
        )


def _tokenize(experiment: Experiment, of: Stored, content: Codes, runtime: Runtime, rebuild: bool) -> dict[str, Any]:
    folder = mirrored(experiment.text.store, "work") / of.name
    expected = runtime.on_main(lambda: begin(folder, experiment, of, rebuild))
    with Progress(f"{of}: reading", main=runtime.is_main):
        every = sources(experiment, of, content, runtime)
    # What there is, and a codebook, all ranks have from one: another machine's arithmetic, or folder, may be another.
    keys, codes, held = runtime.on_main(lambda: (None, None, None) if rebuild else held_codes(folder))
    if keys is not None and keys.type != every.ids.type:
        what = f"is {every.ids.type}, and of the items that have codes {keys.type}"
        remedy = "Write the catalog with the type it had, or run `foundrank tokenize EXP --rebuild`."
        raise UserError(f"{expected['catalog']}: column '{expected['catalog_key']}'", what, remedy)
    fits = every.with_something & (content.codes.known(_bare(every)) if isinstance(content.codes, Given) else True)
    new = fits if keys is None else fits & ~np.isin(every.keys, id_keys(keys)[0])
    if isinstance(content.codes, Given) and keys is not None:
        _check_still_given(content.codes, keys, codes)
    at = np.flatnonzero(new)
    made_of = [
        expected["asked"],
        expected["catalog_fingerprint"],
        runtime.on_main(lambda: _made_of(experiment, content)),
        held and held["identity"],
    ]
    work = Work(folder, json.dumps([*made_of, hashlib.sha256(every.keys[at].tobytes()).hexdigest()]))
    if not len(at) and held is not None and held["catalog_fingerprint"] == expected["catalog_fingerprint"]:
        _tell(of, held, 0, runtime)
        return held
    if held is None and not len(at):
        raise UserError(
            f"entities.item.contents.{of.content}",
            "no item of the catalog has what its codes are made of",
            "Give items a text or a vector; for method: given, look whether the ids of its file are those of the catalog.",
        )
    runtime.on_main(work.begin)
    codebook = runtime.on_main(lambda: work.codebook if held is None else load(codebook_of(folder, held)))
    if isinstance(content.codes, Tree):
        every = every.placed(codebook, content.codes.dimension)
    if codebook is None:
        fitted = _fitted(of, content, every, np.flatnonzero(fits), runtime)
        codebook = runtime.on_main(lambda: work.keep_codebook(fitted))
    elif isinstance(content.codes, Columns):
        codebook = content.codes.extended(codebook, every.items(codebook, runtime, lambda items: None))
    own = _codes_of(of, content, every, at, codebook, work, runtime)
    manifest = runtime.on_main(
        lambda: _commit(folder, expected, content, every, at, own, codebook, (keys, codes, held), runtime)
    )
    runtime.on_main(work.end)
    runtime.on_main(lambda: publish(folder))
    _tell(of, manifest, len(at), runtime)
    return manifest


def _made_of(experiment: Experiment, content: Codes) -> list[Any]:
    """What tells all that codes are made of from what else the same settings would take."""
    stored = experiment.stored()
    stores = [of for name in experiment.inputs_of(content) if (of := Stored("item", name)) in stored]
    found: list[Any] = [store_identity(store_folder(experiment, of))["checksum"] for of in stores]
    if isinstance(content.codes, OfVectors) and content.codes.run is not None:
        run = mirrored(content.codes.run, "read")
        fetch_run(run)
        found.append(identity(best_of_members(run)))
    if content.codes.graph:
        files = [
            file for of_domain in check_events(experiment, ("train",)).values() for file in of_domain["train"].files
        ]
        found += [file["checksum"] for file in identities(files)]
    if isinstance(content.codes, Given):
        found.append([hashlib.sha256(part.tobytes()).hexdigest() for part in _given(content.codes)])
    return found


def _given(method: Given) -> tuple[np.ndarray, np.ndarray]:
    return read_code_table(method.path, method.values)


def _check_still_given(method: Given, keys: pa.Array, codes: np.ndarray | None) -> None:
    """Makes sure that what was taken in is still what the file says."""
    assert codes is not None
    there, given = _given(method)
    if not len(there):
        return
    at = KeyIndex(there).lookup(id_keys(keys)[0]).astype(np.int64)
    others = (given[np.maximum(at, 0)] != codes[:, : given.shape[1]]).any(1) & (at >= 0)
    if others.any():
        raise UserError(
            method.path,
            f"has other codes for {others.sum():,} items than when they were taken in",
            "Run `foundrank tokenize EXP --rebuild`, for which runs have to be trained anew, or bring the file back.",
        )


def _bare(every: Sources) -> Items:
    return Items(every.keys, None, every.columns, every.seed)


def _fitted(of: Stored, content: Codes, every: Sources, at: np.ndarray, runtime: Runtime) -> Codebook:
    """The codebook, fitted on the items at some positions."""
    scales = every.standardised(runtime)
    progress = Progress(f"{of}: fitting the codebook", "items", main=runtime.is_main)
    with progress:
        items = every.items(scales, runtime, lambda done: progress.add(done * runtime.world_size))
        codebook = scales | content.codes.fit(items.some(at))
    if every.places is not None:  # where further items are follows from these
        codebook |= {PLACED: torch.from_numpy(every.keys.view(np.int64).copy()), PLACES: every.places.half()}
    return codebook


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
