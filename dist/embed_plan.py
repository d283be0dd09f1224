"""What an embed job has to do: which rows a store will have, which of them are there, and how the vectors are made."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather as feather

from ..data.catalog_texts import CatalogTexts, as_digest_array, survey_texts
from ..data.errors import UserError
from ..data.experiment import EntityConfig, Experiment
from ..data.text_shards import Shard, disk_errors, finished, reserve, shard_checksum
from ..data.text_store import (
    MANIFEST,
    PCA,
    WORK,
    changes,
    expected_manifest,
    read_manifest,
    text_store_folder,
    write_manifest,
)
from ..data.text_store_writer import commit, held_shards, index_bytes, read_digests, swap, tidy
from ..model.text_encoder import RandomVectors, TextEncoder
from .run_folder import read_json, write_json
from .text_reduction import fit_pca, reduction

SHARD_ROWS = (512, 2048)  # fewest and most texts of a shard; in between, a 32nd of what there is to do
_WINDOW = 1 << 16  # texts sorted by length together, so that those of a shard are alike; longest first, for an even end


@dataclass(frozen=True)
class Plan:
    """An embed job of one entity, as every rank knows it; its arrays are files in the store's ``work/``.

    Attributes:
        folder: of the store, or beside it while one is rebuilt.
        todo: shards to encode and write, in order.
        shards: all shards the store will have.
        dimension: D of the store.
        prompt: put before each text.
        encoder: what the experiment calls it.
        reduce: ``truncate`` or ``pca`` where D is less than the encoder's, else None.
        made_with: what the vectors depend on.
        unused: rows that no key of the catalog has any more.
    """

    folder: Path
    todo: list[Shard]
    shards: list[Shard]
    dimension: int
    prompt: str
    encoder: str
    reduce: str | None
    made_with: dict[str, Any]
    unused: int

    def digests(self) -> np.ndarray:
        """``[N, 16]`` uint8 of the text of every row."""
        return np.load(self.folder / WORK / "digests.npy", mmap_mode="r")

    def positions(self) -> np.ndarray:
        """``[N]`` int64 catalog row of every row's text; -1 where the catalog no longer has it."""
        return np.load(self.folder / WORK / "positions.npy", mmap_mode="r")

    def projection(self) -> Callable[[np.ndarray], np.ndarray]:
        """From the encoder's vectors to the store's."""
        return reduction(self.reduce, self.dimension, self.folder / PCA, self.made_with.get("normalize", True))


def precision_of(experiment: Experiment, name: str, rebuild: bool) -> str | None:
    """The precision of the vectors a store holds already, which what is added should share; None where it is open."""
    if rebuild or experiment.text.precision != "auto":
        return None
    manifest = read_manifest(text_store_folder(experiment, name))
    return manifest["made_with"].get("precision") if manifest else None


def make_plan(
    experiment: Experiment, name: str, config: EntityConfig, encoder: TextEncoder | RandomVectors, rebuild: bool
) -> Plan:
    """Compares the catalog with the store, and reserves the space for what is missing; on rank 0 only.

    Raises:
        UserError: a bad catalog, a store that holds vectors of another kind, or too little space.
    """
    folder = text_store_folder(experiment, name)
    made_with = _made_with(experiment, name, config, encoder)
    target = folder.with_name(f"{folder.name}.rebuild") if rebuild else folder
    if rebuild:
        _drop_other_rebuild(target, made_with)
    _check_ours(folder)
    manifest, held = held_shards(target)
    if manifest and (changed := changes(manifest["made_with"], made_with)):
        raise UserError(
            folder,
            f"its vectors were made differently ({'; '.join(changed)})",
            "Vectors of two kinds are never mixed: add --rebuild to make all of them anew, or undo the change.",
        )
    catalog = survey_texts(name, config)
    held_rows = sum(shard.rows for shard, _ in held)
    held_digests = _held_digests(target, held_rows, manifest)
    row_of_text, added = _rows(catalog, held_digests)
    digests = np.concatenate([held_digests, catalog.digests[added]])
    positions = np.full(len(digests), -1, np.int64)
    positions[row_of_text] = catalog.positions
    new = _cut(held_rows, len(added))
    dimension = made_with["dimension"]
    damaged = [shard for shard, note in held if shard_checksum(target, shard, dimension) != note.vectors]
    plan = Plan(
        folder=target,
        todo=damaged + new,
        shards=[shard for shard, _ in held] + new,
        dimension=dimension,
        prompt=made_with.get("prompt", ""),
        encoder=experiment.text.encoder,
        reduce=made_with.get("reduction"),
        made_with=made_with,
        unused=int((positions < 0).sum()),
    )
    if not plan.todo and manifest and _renewed(plan, experiment, name, manifest, catalog, row_of_text):
        return plan
    with disk_errors(target):
        work = target / WORK
        if read_json(work / "job.json") != made_with:  # notes of another job's shards would only mislead
            shutil.rmtree(work, ignore_errors=True)
            if manifest is None:
                (target / PCA).unlink(missing_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        reserve(target, len(digests), dimension)
        write_json(work / "job.json", made_with)
        np.save(work / "digests.npy", digests)
        np.save(work / "positions.npy", positions)
        feather.write_feather(_index(catalog, row_of_text), str(work / "index.feather"), compression="lz4")
    if plan.reduce == "pca" and not (target / PCA).is_file():
        fit_pca(target / PCA, encoder, plan.prompt, name, config, catalog.positions, dimension)
    todo = [s for s in plan.todo if finished(target, s, digests[s.start : s.start + s.rows], dimension) is None]
    return replace(plan, todo=todo)


def finish(plan: Plan, experiment: Experiment, name: str, encoder: TextEncoder | RandomVectors) -> list[str]:
    """Makes what was written count, on rank 0, after all ranks are done.

    Returns:
        What there is to tell.
    """
    folder = text_store_folder(experiment, name)
    work = plan.folder / WORK
    if work.is_dir():
        _, held = held_shards(plan.folder)
        digests, notes = plan.digests(), dict(held)
        for shard in plan.shards:
            done = finished(plan.folder, shard, digests[shard.start : shard.start + shard.rows], plan.dimension)
            if done is not None:
                notes[shard] = done
        index = feather.read_table(str(work / "index.feather"), memory_map=False)
        pca = plan.folder / PCA
        commit(
            plan.folder,
            index["key"].combine_chunks(),
            index["row"].to_numpy(),
            np.asarray(digests),
            [notes[shard] for shard in plan.shards],
            plan.dimension,
            expected_manifest(experiment, name)
            | {"model": {"id": experiment.text.encoder, "revision": getattr(encoder, "revision", None)}}
            | {"made_with": plan.made_with}
            | ({"pca_sha256": hashlib.sha256(pca.read_bytes()).hexdigest()} if plan.reduce == "pca" else {}),
        )
    if plan.folder != folder:
        with disk_errors(folder):
            swap(plan.folder, folder)
    manifest = read_manifest(folder)
    assert manifest is not None
    return _told(folder, manifest, plan)


def _made_with(
    experiment: Experiment, name: str, config: EntityConfig, encoder: TextEncoder | RandomVectors
) -> dict[str, Any]:
    """All that a vector depends on besides its text."""
    text = experiment.text
    if isinstance(encoder, RandomVectors):
        return {"vectors": "random", "dimension": encoder.size, "template": config.text}
    dimension = text.dimension or encoder.size
    if dimension > encoder.size:
        raise UserError(
            f"text.dimension: {dimension}",
            f"the encoder '{text.encoder}' gives {encoder.size} numbers",
            f"Set it to {encoder.size} or less, or leave it out.",
        )
    return {
        "vectors": text.vectors,
        "weights_sha256": encoder.weights_checksum,
        "precision": encoder.precision,
        "pooling": encoder.pooling,
        "normalize": encoder.normalize,
        "max_length": encoder.max_length,
        "prompt": config.prompt if config.prompt is not None else encoder.stated.prompt(name),
        "template": config.text,
        "dimension": dimension,
        "reduction": text.reduction if dimension < encoder.size else None,
    }


def _check_ours(folder: Path) -> None:
    """Refuses a folder of somebody's that a store would be written into, or put in the place of."""
    if folder.exists() and not folder.is_dir():
        raise UserError(folder, "is a file", "Choose another text.store.")
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).exists() for name in (MANIFEST, WORK)):
        raise UserError(
            folder, "is not empty and holds no text store", "Choose another text.store, or empty the folder."
        )


def _drop_other_rebuild(target: Path, made_with: dict[str, Any]) -> None:
    """A rebuild that was stopped is gone on with; one of other vectors is of no use."""
    try:
        manifest = read_manifest(target)
    except UserError:
        manifest = {}
    unlike = manifest is not None and manifest.get("made_with") != made_with
    if unlike:
        shutil.rmtree(target, ignore_errors=True)


def _held_digests(folder: Path, rows: int, manifest: dict[str, Any] | None) -> np.ndarray:
    digests = read_digests(folder, rows)
    if manifest and hashlib.sha256(digests.tobytes()).hexdigest() != manifest["texts_sha256"]:
        raise UserError(
            folder, "the text store's list of texts is damaged", "Run `foundrank embed EXP --rebuild` to make it anew."
        )
    return digests


def _rows(catalog: CatalogTexts, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[N]`` row of each distinct text, and which texts the store does not have yet, in the order of their rows."""
    found = pc.index_in(as_digest_array(catalog.digests.tobytes()), value_set=as_digest_array(held.tobytes()))
    row_of_text = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    missing = np.flatnonzero(row_of_text < 0)
    window = np.arange(len(missing)) // _WINDOW
    added = missing[np.lexsort((-catalog.lengths[missing], window))]
    row_of_text[added] = len(held) + np.arange(len(added))
    return row_of_text, added


def _cut(start: int, rows: int) -> list[Shard]:
    """Shards of rows ``start`` to ``start + rows``."""
    size = min(max(rows // 32, SHARD_ROWS[0]), SHARD_ROWS[1])
    return [Shard(start + at, min(size, rows - at)) for at in range(0, rows, size)]


def _index(catalog: CatalogTexts, row_of_text: np.ndarray) -> pa.Table:
    return pa.table({"key": catalog.keys, "row": row_of_text[catalog.text_of_key]})


def _renewed(
    plan: Plan,
    experiment: Experiment,
    name: str,
    manifest: dict[str, Any],
    catalog: CatalogTexts,
    row_of_text: np.ndarray,
) -> bool:
    """Whether the store is just what it should be; renews its manifest where only names and places changed."""
    index = _index(catalog, row_of_text)
    content = index_bytes(index["key"].combine_chunks(), index["row"].to_numpy(), manifest["rows"])
    path, pca = plan.folder / manifest["index"], plan.folder / PCA
    wanted = {path: manifest["index_sha256"]} | ({pca: manifest["pca_sha256"]} if plan.reduce == "pca" else {})
    if hashlib.sha256(content).hexdigest() != manifest["index_sha256"]:
        return False
    if any(not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != sha for file, sha in wanted.items()):
        return False
    expected = expected_manifest(experiment, name)
    if manifest != manifest | expected:
        write_manifest(plan.folder, manifest | expected)
    tidy(plan.folder, manifest)
    return True


def _told(folder: Path, manifest: dict[str, Any], plan: Plan) -> list[str]:
    state = "" if plan.todo else "up to date, "
    lines = [f"{state}{manifest['rows']:,} distinct texts of {manifest['keys']:,} rows in {folder}"]
    if cut := sum(shard["cut"] for shard in manifest["shards"]):
        lines.append(f"{cut:,} texts were cut after {plan.made_with['max_length']} tokens (text.max_length)")
    if (rebuild := folder.with_name(f"{folder.name}.rebuild")).exists():
        lines.append(f"an unfinished rebuild lies in {rebuild}: go on with --rebuild, or delete it")
    if plan.unused:
        lines.append(f"{plan.unused:,} vectors are of texts the catalog no longer has; --rebuild drops them")
    return lines
