"""Batch scoring: Parquet in, Parquet out, one part per piece of input, each finished or absent."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn

from ...data.arrow.column_types import plain_table
from ...data.batch.row_encoder import RowEncoder
from ...data.batch.rows import Rows
from ...data.config.kinds import Kinds
from ...data.errors import UserError, nearest
from ...data.events.event_files import Unreadable, iterate_group, open_parquet
from ...data.schema.column_needs import needed_columns
from ...data.schema.layout import padded_rows
from ...data.schema.skipped_values import check_share, rows_of, without_bad_values
from ...model.kinds import KINDS
from ...model.tasks.task_columns import TaskColumns
from ..logs import prometheus
from ..logs.progress import Progress
from ..ranks.runtime import Runtime
from ..run.checkpoint_folder import checked_best
from ..run.checkpoints import load
from ..run.run_folder import open_run
from ..sharding.shard import replicate, shard
from .scoring_input import DOMAIN, ScoringJob
from .work_list import Part, in_turns, succeed, unfinished, write_part

_ROWS = 16384  # scored at a time; half of them where each has a sequence of past items


def score(job: ScoringJob, parts: list[Part], runtime: Runtime) -> tuple[int, float, int, int]:
    """Scores every row of a job's input with its run's best checkpoint; ``parts`` are of `plan_parts`.

    Each row group becomes one part, written beside its final name and renamed when whole; ``_SUCCESS`` comes last.
    Parts already there are kept, so a job that was stopped is finished by running it again. A part holds ids and ``keep``
    columns as they were, ``domain``, and ``score_<task>``: float32 as of `Task.scores`, null where the domain lacks the task,
    under ``skip``, where the row is bad, and where its values are so large that no number comes out.

    Returns:
        Rows in the input; rows per second of those scored just now, all ranks, loading not counted; bad rows, on rank 0; and of
        those scored just now how many came out as no number.

    Raises:
        UserError: a damaged checkpoint, or bad input.
    """
    todo = runtime.on_main(lambda: unfinished(parts, job.out))
    prometheus.label(command="score", run=str(job.run))
    encoder, model, replicated = model_of(job.folder, runtime)
    scorer = RowScorer(model, encoder, runtime, job)
    rows = sum(part.rows for part in parts)
    counts = np.zeros(2, np.int64)  # bad rows, and those of which no number came out

    def do(part: Part) -> None:
        counts[:] += scorer.score(part)
        check_share(int(counts[0]), rows, job.policy, job.source, f", the last of them in {part.file}")

    started = time.perf_counter()
    with Progress("scoring", "rows", sum(part.rows for part in todo), "scoring", runtime.is_main) as done:
        scorer.progress = lambda rows: done.add(rows * runtime.world_size)
        in_turns(todo, runtime, replicated, do, scorer.idle, done)
    rate = sum(part.rows for part in todo) / (time.perf_counter() - started)
    bad = runtime.on_main(lambda: succeed(job.source, job.out, job.policy, parts))
    return rows, rate, bad, int(runtime.sum(torch.tensor(counts[1])))


def model_of(run: Path, runtime: Runtime, kinds: Kinds = KINDS) -> tuple[RowEncoder, nn.Module, bool]:
    """A run's encoder, its model with the best checkpoint, and whether tables are on every rank, so that lookups need no other.

    Raises:
        UserError: no run, or a damaged checkpoint.
    """
    experiment, statistics = open_run(run, kinds)
    checkpoint = checked_best(run, runtime)
    encoder = RowEncoder(experiment, statistics)
    replicated = replicate(encoder.layout, experiment, runtime)
    model = replicated or shard(encoder.layout, experiment, runtime)
    load(checkpoint, model)
    model.eval()
    return encoder, model, replicated is not None


class RowScorer:
    """Scores tables of rows as a job says, a few thousand rows at a time.

    Attributes:
        progress: told how many rows of a part have just been scored.
    """

    def __init__(self, model: nn.Module, encoder: RowEncoder, runtime: Runtime, job: ScoringJob):
        """Args: as of `model_of`; of the job its domains, columns and policy count, not where it reads and writes."""
        self._model, self._encoder, self._runtime, self._job = model, encoder, runtime, job
        self.progress: Callable[[int], None] = lambda rows: None
        self._names = encoder.layout.domains
        self._alike = _alike(encoder)
        self._tasks = TaskColumns(encoder.layout.task_kinds)
        tasks, domains = encoder.layout.tasks, encoder.experiment.domains
        self._has_task = np.array([[task in domains[name].tasks for task in tasks] for name in self._names])
        self._like = [self._names.index(name) for name in job.like]
        self._rows = _ROWS // 2 if encoder.layout.past else _ROWS
        self._padded = padded_rows(self._rows, len(self._names))

    def score(self, part: Part) -> tuple[int, int]:
        """Scores one part, a few thousand rows at a time; how many of its rows are bad, and of how many no number came out."""
        schema = open_parquet(part.file).schema_arrow
        columns, where = self._columns(schema.names), f"{part.file}: row group {part.group}"
        scored, row, bad_rows, overflowed = [], 0, 0, 0
        try:
            tables = iterate_group(part.file, part.group, columns, self._rows)
            for output, bad, of_no_number in self._scored(tables, where):
                scored.append(output)
                row += output.num_rows
                self.progress(output.num_rows)
                bad_rows, overflowed = bad_rows + bad, overflowed + of_no_number
        except Unreadable:
            if not self._job.policy.skips:
                raise
            self.idle(part.rows, row)
            scored, bad_rows, overflowed = [], part.rows, 0  # nothing is known of these rows, not even their ids
        write_part(part, pa.concat_tables(scored) if scored else self._nothing(schema, columns), bad_rows)
        return bad_rows, overflowed

    def score_table(self, table: pa.Table, where: str) -> tuple[pa.Table, int]:
        """Scores a table in memory, into the columns of a part; and how many of its rows are bad. ``where`` is for errors."""
        columns = self._columns(table.column_names)
        table = table.select(columns)
        pieces = (table.slice(at, self._rows) for at in range(0, table.num_rows, self._rows))
        scored = list(self._scored(pieces, where))
        outputs = [output for output, *_ in scored] or [self._nothing(table.schema, columns)]
        return pa.concat_tables(outputs), sum(bad for _, bad, _ in scored)

    def _scored(self, tables: Iterable[pa.Table], where: str) -> Iterator[tuple[pa.Table, int, int]]:
        """The scores of each table, how many of its rows are bad, and of how many no number came out."""
        row = 0
        for table in tables:
            of_rows = self._of_rows(table, where, row)
            logits, bad = self._logits(table, of_rows, f"{where}, in rows {row} to {row + table.num_rows - 1}")
            scores = self._tasks.scores(torch.from_numpy(logits)).numpy()
            overflowed = int((np.isnan(scores).any(1) & ~bad).sum())
            yield self._output(table, of_rows[0], scores, bad), int(bad.sum()), overflowed
            row += table.num_rows

    def idle(self, most: int, rows: int) -> None:
        """Predicts nothing, as often as the rank with ``most`` rows still predicts when this one is done with its own."""
        for _ in range((-(-most // self._rows) - -(-rows // self._rows)) * max(len(self._job.like), 1)):
            self._predict([self._encoder.no_rows()])

    def _of_rows(self, table: pa.Table, where: str, first_row: int) -> list[np.ndarray]:
        """``[N]`` the domain of each row; for rows of a domain the run does not know, of each domain it is like."""
        if self._like:
            return [np.full(table.num_rows, position) for position in self._like]
        return [_domains(table, self._job.domain, self._names, where, first_row)]

    def _logits(self, table: pa.Table, of_rows: list[np.ndarray], where: str) -> tuple[np.ndarray, np.ndarray]:
        """``[N, T]``, the mean over ``of_rows``, each task over the domains that have it; and ``[N]`` bool, True for bad rows."""
        total, bad = np.zeros((table.num_rows, len(self._encoder.layout.tasks))), np.zeros(table.num_rows, bool)
        for of_row in of_rows:
            pieces, order, of_these = self._encode(table, of_row, where)
            total[order] += np.where(self._has_task[of_row[order]], self._predict(pieces), 0)
            bad |= of_these
        return total / np.maximum(sum(self._has_task[of_row] for of_row in of_rows), 1), bad

    def _encode(self, table: pa.Table, of_row: np.ndarray, where: str) -> tuple[list[Rows], np.ndarray, np.ndarray]:
        """Encoded rows by domain, ``[N]`` where each of them is in the table, and ``[N]`` bool, True where one is bad."""
        bad = np.zeros(table.num_rows, bool)
        pieces: list[tuple[Rows, np.ndarray]] = []
        for domains in self._alike:
            at = np.flatnonzero(np.isin(of_row, domains))
            if not len(at):
                continue
            name = self._names[domains[0]]
            needs = needed_columns(self._encoder.experiment, name, with_labels=False)
            asked = {need.name for need in needs}
            part = plain_table(table.select([column for column in table.column_names if column in asked]))
            part = part if len(at) == table.num_rows else part.take(pa.array(at))
            if self._job.like:  # rows of another domain have none of this one's own features
                for lacking in asked - set(part.column_names):
                    part = part.append_column(lacking, pa.nulls(part.num_rows))
            if self._job.policy.skips:
                part, found = without_bad_values(part, needs)
                bad[at] = rows_of(found, len(at))
            rows = self._encoder.encode(name, part, where, with_labels=False)
            at_by_domain = np.argsort(of_row[at], kind="stable")
            rows, at = rows.take(at_by_domain), at[at_by_domain]
            bounds = np.searchsorted(of_row[at], [*domains, domains[-1] + 1])
            for d, start, stop in zip(domains, bounds, [*bounds[1:]], strict=False):
                pieces.append((replace(rows.slice(start, stop), domain=d), at[start:stop]))
        pieces.sort(key=lambda piece: piece[0].domain)
        return [rows for rows, _ in pieces], np.concatenate([at for _, at in pieces]), bad

    def _columns(self, present: Sequence[str]) -> list[str]:
        experiment = self._encoder.experiment
        asked = self._job.like or ([self._job.domain] if self._job.domain else self._names)
        wanted = {need.name for d in asked for need in needed_columns(experiment, d, False)}
        wanted |= {entity.id for entity in experiment.entities.present().values()} | set(self._job.keep)
        return [name for name in present if name in wanted or (name == DOMAIN and self._job.domain is None)]

    def _predict(self, pieces: list[Rows]) -> np.ndarray:
        batch = self._encoder.assemble(pieces, self._padded)
        with torch.no_grad():
            _, outputs = self._model(batch.to(self._runtime.device))
        return outputs.logits.float().cpu().numpy()

    def _output(self, table: pa.Table, of_row: np.ndarray, scores: np.ndarray, bad: np.ndarray) -> pa.Table:
        experiment, tasks = self._encoder.experiment, self._encoder.layout.tasks
        ids = [entity.id for entity in experiment.entities.present().values() if entity.id in table.column_names]
        columns = {name: table[name] for name in dict.fromkeys([*ids, *self._job.keep])}
        names = pa.array(self._names, pa.string()).take(pa.array(of_row))
        columns[DOMAIN] = pa.array([self._job.domain] * len(of_row), pa.string()) if self._job.like else names
        for t, task in enumerate(tasks):
            has = self._has_task[self._like, t].any() if self._like else self._has_task[of_row, t]
            none = ~has | bad | np.isnan(scores[:, t])
            columns[f"score_{task}"] = pa.array(scores[:, t].astype(np.float32), mask=none)
        return pa.table(columns)

    def _nothing(self, schema: pa.Schema, columns: list[str]) -> pa.Table:
        table = schema.empty_table().select(columns)
        no_scores = np.zeros((0, len(self._encoder.layout.tasks)))
        return self._output(table, np.zeros(0, np.int64), no_scores, np.zeros(0, bool))


def _alike(encoder: RowEncoder) -> list[list[int]]:
    """Domains whose rows are encoded alike, so that they can be encoded together."""
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(encoder.layout.domains):
        config = encoder.experiment.domains[name]
        features = {name: feature.model_dump() for name, feature in config.features.items()}
        groups.setdefault(repr((config.kind, features)), []).append(position)
    return list(groups.values())


def _domains(table: pa.Table, domain: str | None, names: Sequence[str], where: str, first_row: int) -> np.ndarray:
    """``[N]`` position of each row's domain; ``first_row`` is where the table begins in the row group."""
    if domain is not None:
        return np.full(table.num_rows, names.index(domain))
    given = table[DOMAIN].cast(pa.string())
    found = pc.index_in(given, pa.array(names)).combine_chunks()
    if found.null_count:
        row = int(np.argmax(found.is_null().to_numpy(zero_copy_only=False)))
        value = given.cast(pa.binary())[row].as_py()  # it may not be UTF-8
        value = "null" if value is None else value.decode(errors="replace")
        raise UserError(
            f"{where}, row {first_row + row}", f"'{value}' is not a domain of this run", nearest(value, names)
        )
    return found.to_numpy()
