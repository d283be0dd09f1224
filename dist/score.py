"""Batch scoring: Parquet in, Parquet out, one part per piece of input, each finished or absent."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from ..data.parquet import EventFiles, check_columns, list_events, open_parquet, read_group
from ..data.plan import padded_rows
from ..data.rows import Rows
from .checkpoint import best, load
from .run_folder import open_run, read_json, write_json
from .runtime import Runtime
from .sharding import shard

DOMAIN = "domain"
_JOB = "_job.json"


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
) -> int:
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
        Rows in the input.

    Raises:
        UserError: no run, bad input, an unknown domain, or an output folder that holds something else.
    """
    experiment, statistics = open_run(run)
    checkpoint = best(run)
    parts = runtime.on_main(lambda: check_input(run, source, out, domain, keep))
    todo = runtime.on_main(lambda: _unfinished(parts, out))
    encoder = EventEncoder(experiment, statistics)
    sharded = shard(encoder.layout, experiment, runtime)
    load(checkpoint, sharded)
    sharded.eval()
    mine = todo[runtime.rank :: runtime.world_size]
    scorer = _Scorer(sharded, encoder, runtime)
    total, done = sum(part.rows for part in mine), 0
    # Every lookup is a collective: ranks with fewer parts or smaller ones take part with empty batches.
    for turn in range(-(-len(todo) // runtime.world_size)):
        together = todo[turn * runtime.world_size : (turn + 1) * runtime.world_size]
        calls = max(scorer.calls(part.rows) for part in together)
        part = together[runtime.rank] if runtime.rank < len(together) else None
        scorer.score(part, domain, keep, calls)
        done += part.rows if part else 0
        progress(done, total)
    runtime.barrier()
    runtime.on_main(lambda: (out / "_SUCCESS").touch())
    return sum(part.rows for part in parts)


def _unfinished(parts: list[_Part], out: Path) -> list[_Part]:
    todo = [part for part in parts if not part.out.exists()]
    if todo:
        (out / "_SUCCESS").unlink(missing_ok=True)
    return todo


class _Scorer:
    def __init__(self, model: nn.Module, encoder: EventEncoder, runtime: Runtime):
        self._model, self._encoder, self._runtime = model, encoder, runtime
        self._names = encoder.layout.domains
        self._batch = encoder.experiment.training.batch_size
        self._padded = padded_rows(self._batch, len(self._names))

    def calls(self, rows: int) -> int:
        """Batches for a row group: rows are sorted by domain first, and a batch may hold several."""
        return -(-rows // self._batch)

    def score(self, part: _Part | None, domain: str | None, keep: Sequence[str], calls: int) -> None:
        """Scores one part, or keeps the others company."""
        if part is None:
            for _ in range(calls):
                self._predict([self._rows(self._names[0], None)])
            return
        table = read_group(
            part.file, part.group, self._columns(open_parquet(part.file).schema_arrow.names, domain, keep)
        )
        of_row = _domains(table, domain, self._names, f"{part.file}: row group {part.group}")
        order = np.argsort(of_row, kind="stable")
        logits = np.zeros((table.num_rows, len(self._encoder.layout.tasks)), np.float32)
        for call in range(calls):
            at = order[call * self._batch : (call + 1) * self._batch]
            pieces = [self._rows(self._names[d], table.take(at[of_row[at] == d])) for d in np.unique(of_row[at])]
            logits[at] = self._predict(pieces or [self._rows(self._names[0], None)])
        _write(part.out, self._output(table, of_row, 1 / (1 + np.exp(-logits.astype(np.float64))), keep))

    def _columns(self, present: Sequence[str], domain: str | None, keep: Sequence[str]) -> list[str]:
        experiment = self._encoder.experiment
        wanted = {
            need.name for d in ([domain] if domain else self._names) for need in needed_columns(experiment, d, False)
        }
        wanted |= {entity.id for entity in experiment.entities.present().values()} | set(keep)
        return [name for name in present if name in wanted or (name == DOMAIN and domain is None)]

    def _rows(self, domain: str, table: pa.Table | None) -> Rows:
        if table is None:
            columns = needed_columns(self._encoder.experiment, domain, with_labels=False)
            table = pa.table({need.name: pa.nulls(0) for need in columns})
        return self._encoder.encode(domain, table, "the input", with_labels=False)

    def _predict(self, pieces: list[Rows]) -> np.ndarray:
        batch = assemble(pieces, self._encoder.layout, self._encoder.text_vectors, self._padded)
        with torch.no_grad():
            _, outputs = self._model(batch.to(self._runtime.device))
        return outputs["logits"].float().cpu().numpy()

    def _output(self, table: pa.Table, of_row: np.ndarray, probabilities: np.ndarray, keep: Sequence[str]) -> pa.Table:
        experiment, tasks = self._encoder.experiment, self._encoder.layout.tasks
        ids = [entity.id for entity in experiment.entities.present().values() if entity.id in table.column_names]
        columns = {name: table[name] for name in dict.fromkeys([*ids, *keep])}
        columns[DOMAIN] = pa.array(np.array(self._names, object)[of_row], pa.string())
        for t, task in enumerate(tasks):
            has = np.array([task in experiment.domains[name].tasks for name in self._names])[of_row]
            columns[f"score_{task}"] = pa.array(probabilities[:, t].astype(np.float32), mask=~has)
        return pa.table(columns)


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


def _domains(table: pa.Table, domain: str | None, names: Sequence[str], where: str) -> np.ndarray:
    """``[N]`` position of each row's domain."""
    if domain is not None:
        return np.full(table.num_rows, names.index(domain))
    found = pc.index_in(table[DOMAIN].cast(pa.string()), pa.array(names)).combine_chunks()
    if found.null_count:
        row = int(np.argmax(found.is_null().to_numpy(zero_copy_only=False)))
        value = table[DOMAIN][row].as_py()
        raise UserError(f"{where}, row {row}", f"'{value}' is no domain of this run", nearest(str(value), names))
    return found.to_numpy()


def _write(path: Path, table: pa.Table) -> None:
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    pq.write_table(table, temporary, compression="zstd")
    os.replace(temporary, path)
