"""Batch scoring: Parquet in, Parquet out, one part per piece of input, each finished or absent."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from ...data.schema.bad_values import check_share, rows_of, without_bad_values
from ...data.schema.column_needs import needed_columns
from ...data.schema.sizes import padded_rows
from ...data.storage import storage
from ...model.kinds import KINDS
from ..exchange.row_encoders import row_encoder
from ..logs import prometheus
from ..logs.progress import Progress
from ..predictor.predictor import checked_members, predictor
from ..predictor.row_scores import row_scores
from ..ranks.runtime import Runtime
from ..retrieval.retrieval import Retriever
from ..run.run_folder import open_run
from ..sharding.shard import replicate, shard
from .hive_columns import with_columns
from .output_folder import succeed
from .part_files import statistics_of_parts, unfinished, write_part
from .scoring_input import DOMAIN, ROWS_AT_A_TIME, ScoringJob
from .statistics import of_scores
from .summary import as_json, summarized
from .work_list import Part, WorkList, in_turns


def score(job: ScoringJob, work: WorkList, runtime: Runtime) -> dict[str, Any]:
    """Scores every row of a job's input with its run's best checkpoint; ``work`` is of `plan_parts`.

    Each row group becomes one part, written beside its final name and renamed when whole; ``_SUCCESS`` comes last.
    Parts already there are kept, so a job that was stopped is finished by running it again. A part holds ids and ``keep``
    columns as they were, ``domain``, and ``score_<task>``: float32 as of `Task.scores`, null where the domain lacks the task,
    under ``skip``, where the row is bad, and where its values are so large that no number comes out. A run without tasks has one score,
    ``score_next_item``, of the row's item as the next one of its user; null where nothing is known of that item.

    Returns:
        The summary, on every rank; ``rows_per_s`` is of the rows scored just now, all ranks, loading not counted.

    Raises:
        UserError: a damaged checkpoint, or bad input.
    """
    began = time.perf_counter()
    todo = runtime.on_main(lambda: unfinished(work))
    prometheus.label(command="score", run=str(job.run))
    encoder, model, replicated = model_of(job.folder, runtime)
    scorer = RowScorer(model, encoder, runtime, job)
    bad = 0

    def do(part: Part) -> None:
        nonlocal bad
        bad += scorer.score(part, work)
        check_share(bad, work.rows, job.policy, job.source, f", the last of them in {part.file}")

    started = time.perf_counter()
    with Progress("scoring", "rows", sum(part.rows for part in todo), "scoring", runtime.is_main) as done:
        scorer.progress = lambda rows: done.add(rows * runtime.world_size)
        in_turns(todo, runtime, replicated, do, scorer.idle, done)
    rate = sum(part.rows for part in todo) / (time.perf_counter() - started)
    return runtime.on_main(lambda: summed_up(job, work, time.perf_counter() - began, rate))


def summed_up(job: Any, work: WorkList, seconds: float, rate: float) -> dict[str, Any]:
    """Ends a job whose parts are all there; its summary.

    Raises:
        UserError: more rows are bad than the policy allows.
    """
    run = storage.resolved(str(job.run), Path.cwd())
    summary = summarized(work, statistics_of_parts(work), run, seconds, rate)
    bad = summary["why"]["bad_rows"] + summary["why"]["unreadable_rows"]
    if job.policy.skips:
        check_share(bad, work.rows, job.policy, job.source)
    succeed(work.out, work.folder, as_json(summary))
    return summary | {"rows_per_s": rate}


def model_of(run: Path, runtime: Runtime, kinds: Kinds = KINDS) -> tuple[RowEncoder, nn.Module, bool]:
    """A run's encoder, its model with the best checkpoint, and whether tables are on every rank, so that lookups need no other.

    Of a run of several models, one that predicts as all of them.

    Raises:
        UserError: no run, or a damaged checkpoint.
    """
    experiment, statistics = open_run(run, kinds)
    checkpoints = checked_members(run, experiment, runtime)
    encoder = row_encoder(experiment, statistics, runtime)
    with Progress("loading the model and its tables", main=runtime.is_main):
        parts = (encoder.layout, experiment, runtime)
        models = [copy for _ in checkpoints if (copy := replicate(*parts, len(checkpoints))) is not None]
        replicated = bool(models)
        model, _ = predictor(models or [shard(*parts) for _ in checkpoints], checkpoints)
    model.eval()
    return encoder, model, replicated


class RowScorer:
    """Scores tables of rows as a job says, a few thousand rows at a time.

    Attributes:
        progress: told how many rows of a part have just been scored.
    """

    def __init__(
        self,
        model: nn.Module,
        encoder: RowEncoder,
        runtime: Runtime,
        job: ScoringJob,
        retriever: Retriever | None = None,
    ):
        """Args: as of `model_of`; of the job its domains, columns and policy count, not where it reads and writes. And
        the ``retriever`` of a run without tasks, where there is one already.
        """
        self._model, self._encoder, self._runtime, self._job = model, encoder, runtime, job
        self.progress: Callable[[int], None] = lambda rows: None
        self._names = encoder.layout.domains
        self._alike = _alike(encoder)
        self._scores = row_scores(model, encoder, runtime, retriever)
        self._like = [self._names.index(name) for name in job.like]
        known = {name: has for name, has in zip(self._names, self._scores.has, strict=True)}
        if job.like and job.domain:
            known = {job.domain: self._scores.has[self._like].any(0)}
        self._tasks_of = {name: list(np.array(self._scores.names)[has]) for name, has in known.items()}
        self._rows = ROWS_AT_A_TIME // 2 if encoder.layout.past else ROWS_AT_A_TIME
        self._padded = padded_rows(self._rows, len(self._names))

    def score(self, part: Part, work: WorkList) -> int:
        """Scores one part, a few thousand rows at a time; how many of its rows are bad."""
        schema = open_parquet(part.file).schema_arrow
        own = self._columns(schema.names)
        hive = {name: part.hive[name] for name in self._columns(list(part.hive))}
        where = f"{part.file}: row group {part.group}"
        scored, row, bad, unknown = [], 0, [np.zeros(0, bool)], [np.zeros(0, bool)]
        try:
            tables = iterate_group(part.file, part.group, own, self._rows)
            for output, *of_these in self._scored((with_columns(table, hive) for table in tables), where):
                scored.append(output)
                bad.append(of_these[0])
                unknown.append(of_these[1])
                row += output.num_rows
                self.progress(output.num_rows)
        except Unreadable:
            if not self._job.policy.skips:
                raise
            self.idle(part.rows, row)
            scored, bad, unknown = [], bad[:1], unknown[:1]  # nothing is known of these rows, not even their ids
        output = (
            pa.concat_tables(scored) if scored else self._nothing(with_columns(schema.empty_table().select(own), hive))
        )
        statistics = of_scores(output, np.concatenate(bad), self._tasks_of, part.rows, np.concatenate(unknown))
        write_part(work, part, output, statistics)
        return statistics["unreadable"] + int(sum(of_these.sum() for of_these in bad))

    def score_table(self, table: pa.Table, where: str) -> tuple[pa.Table, int]:
        """Scores a table in memory, into the columns of a part; and how many of its rows are bad. ``where`` is for errors."""
        columns = self._columns(table.column_names)
        table = table.select(columns)
        pieces = (table.slice(at, self._rows) for at in range(0, table.num_rows, self._rows))
        scored = list(self._scored(pieces, where))
        outputs = [output for output, _, _ in scored] or [self._nothing(table)]
        return pa.concat_tables(outputs), sum(int(bad.sum()) for _, bad, _ in scored)

    def _scored(self, tables: Iterable[pa.Table], where: str) -> Iterator[tuple[pa.Table, np.ndarray, np.ndarray]]:
        """The scores of each table, and ``[N]`` bool each, True for bad rows and for those whose item cannot be scored."""
        row = 0
        for table in tables:
            of_rows = self._of_rows(table, where, row)
            places = self._scores.places(table)
            outputs, bad = self._outputs(
                table, of_rows, places, f"{where}, in rows {row} to {row + table.num_rows - 1}"
            )
            yield self._output(table, of_rows[0], self._scores.scores(outputs), bad), bad, places < 0
            row += table.num_rows

    def idle(self, most: int, rows: int) -> None:
        """Predicts nothing, as often as the rank with ``most`` rows still predicts when this one is done with its own."""
        for _ in range((-(-most // self._rows) - -(-rows // self._rows)) * max(len(self._job.like), 1)):
            self._predict([self._encoder.no_rows()], np.zeros(0, np.int64))

    def _of_rows(self, table: pa.Table, where: str, first_row: int) -> list[np.ndarray]:
        """``[N]`` the domain of each row; for rows of a domain the run does not know, of each domain it is like."""
        if self._like:
            return [np.full(table.num_rows, position) for position in self._like]
        return [_domains(table, self._job.domain, self._names, where, first_row)]

    def _outputs(
        self, table: pa.Table, of_rows: list[np.ndarray], places: np.ndarray, where: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """``[N, O]``, the mean over ``of_rows``, each output over the domains that have its task; and ``[N]`` bool, True for bad
        rows.
        """
        has = self._scores.has_output
        total, bad = np.zeros((table.num_rows, has.shape[1])), np.zeros(table.num_rows, bool)
        for of_row in of_rows:
            pieces, order, of_these = self._encode(table, of_row, where)
            total[order] += np.where(has[of_row[order]], self._predict(pieces, places[order]), 0)
            bad |= of_these
        return total / np.maximum(sum(has[of_row] for of_row in of_rows), 1), bad

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
        wanted |= {entity.id for entity in experiment.entities.present().values()} | set(self._job.kept)
        return [name for name in present if name in wanted or (name == DOMAIN and self._job.domain is None)]

    def _predict(self, pieces: list[Rows], places: np.ndarray) -> np.ndarray:
        batch = self._encoder.assemble(pieces, self._padded)
        with torch.no_grad():
            _, outputs = self._model(batch.to(self._runtime.device))
        return self._scores.outputs(outputs, places)

    def _output(self, table: pa.Table, of_row: np.ndarray, scores: np.ndarray, bad: np.ndarray) -> pa.Table:
        experiment = self._encoder.experiment
        ids = [entity.id for entity in experiment.entities.present().values() if entity.id in table.column_names]
        columns = {name: table[name] for name in dict.fromkeys([*ids, *self._job.kept])}
        names = pa.array(self._names, pa.string()).take(pa.array(of_row))
        columns[DOMAIN] = pa.array([self._job.domain] * len(of_row), pa.string()) if self._job.like else names
        for t, task in enumerate(self._scores.names):
            has = self._scores.has[self._like, t].any() if self._like else self._scores.has[of_row, t]
            none = ~has | bad | np.isnan(scores[:, t])
            columns[f"score_{task}"] = pa.array(scores[:, t].astype(np.float32), mask=none)
        return pa.table(columns)

    def _nothing(self, empty: pa.Table) -> pa.Table:
        no_scores = np.zeros((0, len(self._scores.names)))
        return self._output(empty.slice(0, 0), np.zeros(0, np.int64), no_scores, np.zeros(0, bool))


def _alike(encoder: RowEncoder) -> list[list[int]]:
    """Domains whose rows are encoded alike, so that they can be encoded together."""
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(encoder.layout.domains):
        config = encoder.experiment.domains[name]
        features = {name: feature.model_dump() for name, feature in config.features.items()}
        groups.setdefault(repr((config.kind, config.users, config.time, features)), []).append(position)
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
