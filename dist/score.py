"""Batch scoring: Parquet in, Parquet out, one part per piece of input, each finished or absent."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import nn

from ..data.assemble import assemble
from ..data.columns import needed_columns
from ..data.encode import EventEncoder
from ..data.errors import UserError, nearest
from ..data.parquet import EventFiles, check_columns, iterate_group, list_events, open_parquet, read_group
from ..data.plan import padded_rows
from ..data.rows import Rows
from .checkpoint import best, check, load
from .run_folder import open_run, read_json, write_json
from .runtime import Runtime
from .sharding import replicate, shard

DOMAIN = "domain"
_JOB = "_job.json"
_ROWS = 8192  # scored at a time


@dataclass(frozen=True)
class _Part:
    """One row group of the input, and the file its scores go to."""

    file: str
    group: int
    rows: int
    out: Path


def score(
    run: Path,
    source: str,
    out: Path,
    domain: str | None,
    keep: Sequence[str],
    runtime: Runtime,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, float]:
    """Scores every row of the input with a run's best checkpoint.

    Each row group becomes one part, written beside its final name and renamed when whole; ``_SUCCESS`` comes last.
    Parts already there are kept, so a job that was stopped is finished by running it again.

    Args:
        run: the run folder.
        source: a Parquet file, a folder of them, or a glob.
        out: folder of the scores: ids and ``keep`` columns as they were, ``domain``, and ``score_<task>`` (float32
            probability; null where the domain lacks the task).
        domain: the domain of all rows; None if the input has a column ``domain``.
        keep: further input columns to pass through.
        runtime: the process group.
        progress: called with rows done by this rank and its total.

    Returns:
        Rows in the input, and rows per second of those scored just now, all ranks, loading not counted.

    Raises:
        UserError: no run, a damaged checkpoint, bad input, an unknown domain, or an output folder that holds something else.
    """
    experiment, statistics = open_run(run)
    checkpoint = best(run)
    check(checkpoint, runtime)
    parts = runtime.on_main(lambda: check_input(run, source, out, domain, keep))
    todo = runtime.on_main(lambda: _unfinished(parts, out))
    encoder = EventEncoder(experiment, statistics)
    replicated = replicate(encoder.layout, experiment, runtime)
    model = replicated or shard(encoder.layout, experiment, runtime)
    load(checkpoint, model)
    model.eval()
    scorer = _Scorer(model, encoder, runtime, domain, keep)
    total, done = sum(part.rows for part in todo[runtime.rank :: runtime.world_size]), 0
    started = time.perf_counter()
    for turn in range(0, len(todo), runtime.world_size):
        together = todo[turn : turn + runtime.world_size]
        if runtime.rank < len(together):
            scorer.score(together[runtime.rank])
            done += together[runtime.rank].rows
            progress(done, total)
        if not replicated:  # a lookup needs all ranks: those with fewer rows keep the others company
            scorer.idle(
                max(part.rows for part in together), together[runtime.rank].rows if runtime.rank < len(together) else 0
            )
    runtime.barrier()
    rate = sum(part.rows for part in todo) / (time.perf_counter() - started)
    runtime.on_main(lambda: (out / "_SUCCESS").touch())
    return sum(part.rows for part in parts), rate


def _unfinished(parts: list[_Part], out: Path) -> list[_Part]:
    todo = [part for part in parts if not part.out.exists()]
    if todo:
        (out / "_SUCCESS").unlink(missing_ok=True)
    return todo


class _Scorer:
    def __init__(
        self, model: nn.Module, encoder: EventEncoder, runtime: Runtime, domain: str | None, keep: Sequence[str]
    ):
        self._model, self._encoder, self._runtime = model, encoder, runtime
        self._domain, self._keep = domain, keep
        self._names = encoder.layout.domains
        self._alike = _alike(encoder)
        self._padded = padded_rows(_ROWS, len(self._names))

    def score(self, part: _Part) -> None:
        """Scores one part, a few thousand rows at a time."""
        schema = open_parquet(part.file).schema_arrow
        columns, where = self._columns(schema.names), f"{part.file}: row group {part.group}"
        scored, row = [], 0
        for table in iterate_group(part.file, part.group, columns, _ROWS):
            of_row = _domains(table, self._domain, self._names, where, row)
            pieces, order = self._encode(table, of_row, f"{where}, in rows {row} to {row + table.num_rows - 1}")
            logits = np.empty((table.num_rows, len(self._encoder.layout.tasks)))
            logits[order] = self._predict(pieces)
            scored.append(self._output(table, of_row, 1 / (1 + np.exp(-logits))))
            row += table.num_rows
        _write(part.out, pa.concat_tables(scored) if scored else self._nothing(schema, columns))

    def idle(self, most: int, rows: int) -> None:
        """Predicts nothing, as often as the rank with ``most`` rows still predicts when this one is done with its own."""
        for _ in range(-(-most // _ROWS) - -(-rows // _ROWS)):
            self._predict([self._no_rows()])

    def _encode(self, table: pa.Table, of_row: np.ndarray, where: str) -> tuple[list[Rows], np.ndarray]:
        """Encoded rows by domain, and ``[N]`` where each of them is in the table."""
        pieces: list[tuple[Rows, np.ndarray]] = []
        for domains in self._alike:
            at = np.flatnonzero(np.isin(of_row, domains))
            if not len(at):
                continue
            part = table if len(at) == table.num_rows else table.take(pa.array(at))
            rows = self._encoder.encode(self._names[domains[0]], part, where, with_labels=False)
            at_by_domain = np.argsort(of_row[at], kind="stable")
            rows, at = rows.take(at_by_domain), at[at_by_domain]
            bounds = np.searchsorted(of_row[at], [*domains, domains[-1] + 1])
            for d, start, stop in zip(domains, bounds, [*bounds[1:]], strict=False):
                pieces.append((replace(rows.slice(start, stop), domain=d), at[start:stop]))
        pieces.sort(key=lambda piece: piece[0].domain)
        return [rows for rows, _ in pieces], np.concatenate([at for _, at in pieces])

    def _columns(self, present: Sequence[str]) -> list[str]:
        experiment = self._encoder.experiment
        asked = [self._domain] if self._domain else self._names
        wanted = {need.name for d in asked for need in needed_columns(experiment, d, False)}
        wanted |= {entity.id for entity in experiment.entities.present().values()} | set(self._keep)
        return [name for name in present if name in wanted or (name == DOMAIN and self._domain is None)]

    def _no_rows(self) -> Rows:
        needs = needed_columns(self._encoder.experiment, self._names[0], with_labels=False)
        table = pa.table({need.name: pa.nulls(0) for need in needs})
        return self._encoder.encode(self._names[0], table, "no rows", with_labels=False)

    def _predict(self, pieces: list[Rows]) -> np.ndarray:
        batch = assemble(pieces, self._encoder.layout, self._encoder.text_vectors, self._padded)
        with torch.no_grad():
            _, outputs = self._model(batch.to(self._runtime.device))
        return outputs["logits"].float().cpu().numpy()

    def _output(self, table: pa.Table, of_row: np.ndarray, probabilities: np.ndarray) -> pa.Table:
        experiment, tasks = self._encoder.experiment, self._encoder.layout.tasks
        ids = [entity.id for entity in experiment.entities.present().values() if entity.id in table.column_names]
        columns = {name: table[name] for name in dict.fromkeys([*ids, *self._keep])}
        columns[DOMAIN] = pa.array(self._names, pa.string()).take(pa.array(of_row))
        for t, task in enumerate(tasks):
            has = np.array([task in experiment.domains[name].tasks for name in self._names])[of_row]
            columns[f"score_{task}"] = pa.array(probabilities[:, t].astype(np.float32), mask=~has)
        return pa.table(columns)

    def _nothing(self, schema: pa.Schema, columns: list[str]) -> pa.Table:
        table = schema.empty_table().select(columns)
        return self._output(table, np.zeros(0, np.int64), np.zeros((0, len(self._encoder.layout.tasks))))


def _alike(encoder: EventEncoder) -> list[list[int]]:
    """Domains whose rows are encoded alike, so that they can be encoded together."""
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(encoder.layout.domains):
        config = encoder.experiment.domains[name]
        features = {name: feature.model_dump() for name, feature in config.features.items()}
        groups.setdefault(repr((config.kind, features)), []).append(position)
    return list(groups.values())


def check_input(run: Path, source: str, out: Path, domain: str | None, keep: Sequence[str]) -> list[_Part]:
    """Checks the input, makes the output folder and names the parts.

    Raises:
        UserError: no run, an unknown domain or column, no input, input that lacks a column, or an output folder that
            cannot be made or holds something else.
    """
    experiment, _ = open_run(run)
    checkpoint = best(run)
    if domain is not None and domain not in experiment.domains:
        raise UserError("--domain", f"'{domain}' is no domain of this run", nearest(domain, experiment.domains))
    pattern = str(Path(source) / "**" / "*.parquet") if Path(source).is_dir() else source
    files = list_events(pattern, "the input to score")
    schema = open_parquet(files.files[0]).schema_arrow
    if domain is None and DOMAIN not in schema.names:
        raise UserError(
            files.files[0],
            "has no column 'domain'",
            f"Add one, or say --domain with one of: {', '.join(experiment.domains)}.",
        )
    for name in keep:
        if name not in schema.names:
            raise UserError("--keep", f"'{name}' is no column of {files.files[0]}", nearest(name, schema.names))
    named = [domain] if domain else [d for d in experiment.domains if d in _domains_named(files)]
    needs = {need.name: need for d in named for need in needed_columns(experiment, d, with_labels=False)}
    check_columns(files.files, list(needs.values()))
    job = {
        "run": str(run.resolve()),
        "checkpoint": checkpoint.name,
        "domain": domain,
        "keep": list(keep),
        "input": [[file, os.path.getsize(file)] for file in files.files],
    }
    out = out.absolute()
    _claim(out, job)
    return [
        _Part(file, g, rows, out / f"part-{f:05d}-{g:05d}.parquet")
        for f, (file, groups) in enumerate(zip(files.files, files.group_rows, strict=True))
        for g, rows in enumerate(groups)
    ]


def _claim(out: Path, job: dict[str, Any]) -> None:
    """Makes the output folder this job's, or finds that it is; parts of another job must not be mistaken for its own."""
    if out.exists() and not out.is_dir():
        raise UserError(out, "is a file", "Give a folder for the scores.")
    held = read_json(out / _JOB) if out.is_dir() else None
    if held is None and out.is_dir() and any(out.iterdir()):
        raise UserError(out, "is not empty and holds no scoring job", "Give an empty folder, or delete that one.")
    if held is not None and held != job:
        changed = ", ".join(key for key in job if held.get(key) != job[key])
        raise UserError(
            out, f"holds the scores of another job ({changed} differ)", "Give an empty folder, or delete that one."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / _JOB, job)
    except OSError as error:
        raise UserError(out, f"cannot be written ({error.strerror})", "Choose a folder you can write to.") from error
    for stray in out.glob(".*.tmp-*"):
        stray.unlink()


def _domains_named(files: EventFiles) -> set[str]:
    """Values of the input's ``domain`` column."""
    named: set[str] = set()
    for file, groups in zip(files.files, files.group_rows, strict=True):
        for group in range(len(groups)):
            named |= set(pc.unique(read_group(file, group, [DOMAIN])[DOMAIN].cast(pa.string())).to_pylist())
    return named


def _domains(table: pa.Table, domain: str | None, names: Sequence[str], where: str, first_row: int) -> np.ndarray:
    """``[N]`` position of each row's domain; ``first_row`` is where the table begins in the row group."""
    if domain is not None:
        return np.full(table.num_rows, names.index(domain))
    found = pc.index_in(table[DOMAIN].cast(pa.string()), pa.array(names)).combine_chunks()
    if found.null_count:
        row = int(np.argmax(found.is_null().to_numpy(zero_copy_only=False)))
        value = table[DOMAIN][row].as_py()
        raise UserError(
            f"{where}, row {first_row + row}", f"'{value}' is no domain of this run", nearest(str(value), names)
        )
    return found.to_numpy()


def _write(path: Path, table: pa.Table) -> None:
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    pq.write_table(table, temporary, compression="zstd")
    os.replace(temporary, path)
