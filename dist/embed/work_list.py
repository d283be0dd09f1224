"""What an embed job has to do: which rows a store will have, which of them are there, and how the vectors are made."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...data.config.experiment import Experiment
from ...data.config.sections.entities import Stored
from ...data.content_kinds.content import Missing
from ...data.contents.catalog_inputs import CatalogInputs
from ...data.contents.conditioning import mean_cosine
from ...data.contents.content_store import (
    MANIFEST,
    PCA,
    WORK,
    Written,
    changes,
    expected_manifest,
    missing_told,
    read_manifest,
    store_folder,
    stored_vectors,
    write_manifest,
)
from ...data.contents.distinct_inputs import InputSurvey, survey_inputs
from ...data.contents.embed_work import (
    INDEX,
    drop_from_index,
    first_positions,
    keys_in_index,
    shard_digests,
    write_index,
    write_rows,
)
from ...data.contents.store_shards import Shard, disk_errors, finished, reserve, shard_checksum
from ...data.contents.store_writer import commit, held_shards, read_digests, sha256_of_file, swap, tidy
from ...data.errors import UserError
from ...model.contents.content_encoder import ContentEncoder
from ..run.run_folder import read_json, write_json
from .reduction import SAMPLE, fit_pca, reduction

JOB = "job.json"

SHARD_ROWS = 1024  # texts that are encoded, written and believed together
_WINDOW = 1 << 14  # texts sorted by length together, so that those of a shard are alike; longest first, for an even end


@dataclass(frozen=True)
class Plan:
    """An embed job of one content, as every rank knows it; its arrays are files in the store's ``work/``.

    Attributes:
        folder: of the store, or beside it while one is rebuilt.
        todo: shards to encode and write, in order.
        shards: all shards the store will have.
        dimension: D of the store.
        prompt: put before each text.
        encoder: what the experiment calls it; None where there is none, as of random vectors of pictures.
        reduce: ``truncate`` or ``pca`` where D is less than the encoder's, else None.
        made_with: what the vectors depend on.
        unused: rows that no key of the catalog has any more.
        missing: what the catalog names and nobody can have; what encoders find comes to it when all is encoded.
    """

    folder: Path
    todo: list[Shard]
    shards: list[Shard]
    dimension: int
    prompt: str
    encoder: str | None
    reduce: str | None
    made_with: dict[str, Any]
    unused: int
    missing: Missing

    def projection(self) -> Callable[[np.ndarray], np.ndarray]:
        """From the encoder's vectors to the store's."""
        return reduction(self.reduce, self.dimension, self.folder / PCA, self.made_with.get("normalize", True))


def precision_of(experiment: Experiment, of: Stored, rebuild: bool) -> str | None:
    """The precision of the vectors a store holds already, which what is added should share; None where it is open."""
    if rebuild or experiment.encoder_of(experiment.stored()[of]).precision != "auto":
        return None
    manifest = read_manifest(store_folder(experiment, of))
    return manifest["made_with"].get("precision") if manifest else None


def make_plan(experiment: Experiment, inputs: CatalogInputs, encoder: ContentEncoder, rebuild: bool) -> Plan:
    """Compares the catalog with the store, and reserves the space for what is missing; on rank 0 only.

    Raises:
        UserError: a bad catalog, a store that holds vectors of another kind, or too little space.
    """
    folder = store_folder(experiment, inputs.of)
    made_with = _made_with(experiment, inputs, encoder)
    target = folder.with_name(f"{folder.name}.rebuild") if rebuild else folder
    if rebuild:
        _drop_other_rebuild(target, made_with)
    _check_ours(folder)
    manifest, held = held_shards(target)
    if manifest and (changed := changes(manifest["made_with"], made_with)):
        raise UserError(
            folder,
            f"its vectors were made differently ({'; '.join(changed)})",
            "Vectors of two kinds are never mixed: add --rebuild to embed all of them again, or undo the change.",
        )
    dimension, held_rows = made_with["dimension"], sum(shard.rows for shard, _ in held)
    damaged = [shard for shard, note in held if shard_checksum(target, shard, dimension) != note.vectors]
    with disk_errors(target), survey_inputs(inputs, target.parent) as survey:
        survey.number_rows(read_digests(target, manifest), _WINDOW)
        new = _cut(held_rows, survey.rows - held_rows, min(SHARD_ROWS, inputs.content.together))
        plan = Plan(
            folder=target,
            todo=damaged + new,
            shards=[shard for shard, _ in held] + new,
            dimension=dimension,
            prompt=made_with.get("prompt", ""),
            encoder=experiment.encoder_of(inputs.content).encoder,
            reduce=made_with.get("reduction"),
            made_with=made_with,
            unused=survey.unused,
            missing=survey.missing,
        )
        _lay_down(plan, survey, manifest)
        wants_pca = plan.reduce == "pca" and not (target / PCA).is_file()
        sample = survey.sample(SAMPLE) if wants_pca else None
    if not plan.todo and manifest:
        _drop_bad(plan, inputs, dict(held))
        if _renewed(plan, experiment, inputs.of, manifest):
            return plan
    if sample is not None:
        fit_pca(target / PCA, encoder, plan.prompt, inputs, sample, dimension)
    todo = [shard for shard in plan.todo if finished(target, shard, shard_digests(target, shard), dimension) is None]
    return replace(plan, todo=todo)


def finish(plan: Plan, experiment: Experiment, inputs: CatalogInputs, encoder: ContentEncoder) -> list[str]:
    """Makes what was written count, on rank 0, after all ranks are done.

    Returns:
        What there is to tell.

    Raises:
        UserError: the encoder could encode nothing of what the catalog names.
    """
    folder = store_folder(experiment, inputs.of)
    work = plan.folder / WORK
    if work.is_dir():
        _, held = held_shards(plan.folder)
        notes = dict(held)
        for shard in plan.shards:
            done = finished(plan.folder, shard, shard_digests(plan.folder, shard), plan.dimension)
            if done is not None:
                notes[shard] = done
        _drop_bad(plan, inputs, notes)
        pca = plan.folder / PCA
        commit(
            plan.folder,
            sum(shard.rows for shard in plan.shards),
            [notes[shard] for shard in plan.shards],
            plan.dimension,
            expected_manifest(experiment, inputs.of)
            | {"model": {"id": plan.encoder, "revision": encoder.revision}}
            | {"made_with": plan.made_with}
            | _absent(plan)
            | ({"pca_sha256": sha256_of_file(pca)} if plan.reduce == "pca" else {}),
        )
    if plan.folder != folder:
        with disk_errors(folder):
            swap(plan.folder, folder)
    manifest = read_manifest(folder)
    assert manifest is not None
    conditioned = experiment.model.content_conditioning != "none"
    return _told(folder, manifest, plan, inputs.content.plural, conditioned)


def _made_with(experiment: Experiment, inputs: CatalogInputs, encoder: ContentEncoder) -> dict[str, Any]:
    """All that a vector depends on besides its text."""
    settings, asked = experiment.encoder_of(inputs.content), inputs.content.asked()
    dimension, prompt = settings.dimension or encoder.size, asked.get("prompt")
    if dimension > encoder.size:
        raise UserError(
            f"{inputs.settings_at}.dimension: {dimension}",
            f"the encoder '{settings.encoder}' gives {encoder.size} numbers",
            f"Set it to {encoder.size} or less, or leave it out.",
        )
    return {
        "vectors": settings.vectors,
        **encoder.made_with(prompt if prompt is not None else encoder.prompt(inputs.of.entity)),
        "template": inputs.content.template,
        "dimension": dimension,
        "reduction": settings.reduction if dimension < encoder.size else None,
    }


def _check_ours(folder: Path) -> None:
    """Refuses a folder of somebody's that a store would be written into, or put in the place of."""
    if folder.exists() and not folder.is_dir():
        raise UserError(folder, "is a file", "Choose another text.store.")
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).exists() for name in (MANIFEST, WORK)):
        raise UserError(
            folder, "is not empty and holds no content store", "Choose another text.store, or empty the folder."
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


def _lay_down(plan: Plan, survey: InputSurvey, manifest: dict[str, Any] | None) -> None:
    """Reserves the space for all rows, and writes what the ranks and the commit want to know."""
    work = plan.folder / WORK
    if _vectors_of(work / JOB) != plan.made_with:  # notes of another job's shards would only mislead
        shutil.rmtree(work, ignore_errors=True)
        if manifest is None:
            (plan.folder / PCA).unlink(missing_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    reserve(plan.folder, survey.rows, plan.dimension)
    write_json(work / JOB, plan.made_with)
    write_rows(plan.folder, survey.read_rows())
    write_index(plan.folder, survey.read_index(), survey.rows)


def _vectors_of(job: Path) -> Any:
    """What an unfinished job's vectors are made with; None where that is not known."""
    try:
        return read_json(job, dict[str, Any])
    except UserError:
        return None


def _cut(start: int, rows: int, most: int) -> list[Shard]:
    """Shards of rows ``start`` to ``start + rows``, of ``most`` rows each."""
    return [Shard(start + at, min(most, rows - at)) for at in range(0, rows, most)]


def _renewed(plan: Plan, experiment: Experiment, of: Stored, manifest: dict[str, Any]) -> bool:
    """Whether the store is just what it should be; renews its manifest where only names and places changed."""
    folder = plan.folder
    wanted = {folder / WORK / INDEX: manifest["index_sha256"], folder / manifest["index"]: manifest["index_sha256"]}
    if plan.reduce == "pca":
        wanted[folder / PCA] = manifest["pca_sha256"]
    if any(sha256_of_file(path) != checksum for path, checksum in wanted.items()):
        return False
    kept = {name: value for name, value in manifest.items() if name != "missing"}
    wanted = kept | expected_manifest(experiment, of) | _absent(plan)
    if manifest != wanted:
        write_manifest(folder, wanted)
    tidy(folder, manifest)
    return True


def _drop_bad(plan: Plan, inputs: CatalogInputs, notes: Mapping[Shard, Written]) -> None:
    """Takes out of the index what turned out to be nothing its encoder can encode, and counts it.

    Raises:
        UserError: there is nothing else.
    """
    bad = {shard.start + int(row): reason for shard, note in notes.items() for row, reason in note.bad.items()}
    dropped = drop_from_index(plan.folder, bad, sum(shard.rows for shard in plan.shards))
    for reason in dict.fromkeys(bad[row] for row in sorted(dropped)):
        rows = [row for row in dropped if bad[row] == reason]
        first, *others = inputs.read(first_positions(plan.folder, rows))
        plan.missing.note(reason, first, sum(dropped[row] for row in rows))
        for name in others:
            plan.missing.note(reason, name, 0)
    inputs.check_any(keys_in_index(plan.folder), plan.missing)


def _absent(plan: Plan) -> dict[str, Any]:
    """What the manifest says of what nobody can have."""
    told = plan.missing.told()
    return {"missing": told} if told else {}


def _told(folder: Path, manifest: dict[str, Any], plan: Plan, plural: str, conditioned: bool) -> list[str]:
    state = "" if plan.todo else "up to date, "
    lines = [f"{state}{manifest['rows']:,} distinct {plural} of {manifest['keys']:,} rows in {folder}"]
    if (missing := missing_told(manifest)) is not None:
        lines.append(missing)
    if cut := sum(shard["cut"] for shard in manifest["shards"]):
        lines.append(f"{cut:,} texts were cut after {plan.made_with['max_length']} tokens (text.max_length)")
    vectors = stored_vectors(
        folder, manifest
    )  # not `open_store`: what is written here has yet to go where the store is
    if (cosine := mean_cosine(vectors)) is not None:
        told = "; training takes their mean away (model.content_conditioning)" if conditioned else ""
        lines.append(f"mean cosine of two {plural}: {cosine:z.2f}{told}")
    if (rebuild := folder.with_name(f"{folder.name}.rebuild")).exists():
        lines.append(f"an unfinished rebuild lies in {rebuild}: go on with --rebuild, or delete it")
    if plan.unused:
        lines.append(f"{plan.unused:,} vectors are of {plural} the catalog no longer has; --rebuild drops them")
    return lines
