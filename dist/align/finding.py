"""The first stage: candidates that the generator finds for each row, and the log-probabilities that it gives them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from ...data.arrow.column_need import ColumnNeed
from ...data.arrow.ids import id_keys, mix
from ...data.arrow.values import ragged_keys
from ...data.batch.row_encoder import RowEncoder
from ...data.config.experiment import Experiment
from ...data.events.event_files import EventFiles, iterate_group, open_parquet
from ...data.schema.groups import CANDIDATES, REFERENCE
from ...data.storage.file_systems import Location
from ..logs.progress import Progress
from ..ranks.runtime import Runtime, patiently
from ..retrieval.products import NEVER
from ..retrieval.retrieval import Retriever
from ..run.kept_checkpoints import best_of_members, identity
from ..score.hive_columns import HiveColumns
from ..score.part_files import unfinished, write_part
from ..score.recommend import ROWS, Choice, Recommender, best_scores
from ..score.recommend_input import RecommendJob
from ..score.score import model_of, summed_up
from ..score.statistics import statistics_of
from ..score.work_list import Part, WorkList, in_turns, planned_parts
from .request import CHOSEN, FOUND, LISTED, TRAIN, AlignJob, Grouping, columns_of

_WHOLE = 1 << 30  # longer than any history
_SEED = np.uint64(0x707265666572)


def find(job: AlignJob, run: Location, folder: Path, wanted: Sequence[str], runtime: Runtime) -> None:
    """Writes what a run finds: of each of ``wanted``, of TRAIN groups drawn for training, else lists of the best. A collective.

    Parts that are there are kept, and where all are, no model is loaded.

    Args:
        job: the alignment.
        run: which run finds, and ``folder``, where this machine has it.
        wanted: what candidates are found of.
        runtime: the process group.
    """
    plan = partial(_planned, job, run, folder)
    with patiently(runtime) as ranks:  # of many files what they hold is read
        work = ranks.on_main(lambda: {(of, name): plan(of, name) for of in wanted for name in job.files(of)})
        todo = ranks.on_main(lambda: {key: unfinished(planned) for key, (_, planned) in work.items()})
    if any(todo.values()):
        encoder, model, replicated = model_of(folder, runtime)
        retriever = Retriever(model, encoder, runtime)
        for (of, name), (asked, planned) in work.items():
            if not todo[of, name]:
                continue
            finder = _Finder(job, asked, model, encoder, retriever, runtime, of, name)

            def do(part: Part, planned: WorkList = planned, finder: _Finder = finder) -> None:
                table = finder.part(part)
                write_part(planned, part, table, statistics_of(*best_scores(table[REFERENCE]), part.rows))

            rows = sum(part.rows for part in todo[of, name])
            label = f"{name}: finding candidates"
            with Progress(label, "users", rows, "recommendation", runtime.is_main) as done:
                finder.recommender.progress = lambda users, done=done: done.add(users * runtime.world_size)
                in_turns(todo[of, name], runtime, replicated, do, finder.recommender.idle, done)
    with patiently(runtime) as ranks:
        for asked, planned in work.values():
            ranks.on_main(lambda asked=asked, planned=planned: summed_up(asked, planned, 0.0, 0.0))


def _planned(job: AlignJob, run: Location, folder: Path, of: str, domain: str) -> tuple[RecommendJob, WorkList]:
    experiment, files = job.generator, job.files(of)[domain]
    within = domain if experiment.model.next_item and experiment.model.next_item.candidates == "domain" else None
    size = job.grouping.size if of == TRAIN else LISTED
    out = job.place(of, FOUND, domain)
    asked = RecommendJob(run, files.files[0], out, size, domain=within, rows_of=domain, policy=experiment.bad_data)
    depends: dict[str, Any] = {"checkpoint": identity(best_of_members(folder)), "k": size, "domain": domain}
    if of == TRAIN:
        depends |= {"pool": job.grouping.pool, "temperature": job.grouping.temperature, "seed": experiment.seed}
    passed_on = {need.name: need.field for need in columns_of(job, domain) if not need.optional or _there(files, need)}
    hive = HiveColumns({})
    return asked, planned_parts(asked, depends, files, hive, experiment, passed_on, {}, claims=True)


def _there(files: EventFiles, need: ColumnNeed) -> bool:
    return all(need.name in open_parquet(file).schema_arrow.names for file in files.files)


class _Finder:
    """Finds candidates of rows of one domain."""

    def __init__(
        self,
        job: AlignJob,
        asked: RecommendJob,
        model: nn.Module,
        encoder: RowEncoder,
        retriever: Retriever,
        runtime: Runtime,
        of: str,
        domain: str,
    ):
        self._encoder, self._domain, self._of = encoder, domain, of
        experiment = encoder.experiment
        self._names = [need.name for need in columns_of(job, domain)]
        self._scale = experiment.model.width**-0.5 if experiment.model.target is None else 1.0
        choice, among = None, None
        if of == TRAIN:
            order = partial(drawn_order, job.grouping, experiment, retriever.items.keys, self._scale)
            choice = Choice(job.grouping.pool, order)
            # What training never saw is no candidate in its softmax either.
            among = encoder.items(trained=True).keys if experiment.model.target is None else None
        self.recommender = Recommender(model, encoder, runtime, asked, retriever, among, choice)

    def part(self, part: Part) -> pa.Table:
        """The rows of a part, with their candidates."""
        schema = open_parquet(part.file).schema_arrow
        names = [name for name in self._names if name in schema.names]
        tables = []
        where = f"{part.file}: row group {part.group}"
        for table in iterate_group(part.file, part.group, names, ROWS):
            tables.append(self._with_candidates(table, where))
        return pa.concat_tables(tables) if tables else self._with_candidates(schema.empty_table().select(names), where)

    def _with_candidates(self, table: pa.Table, where: str) -> pa.Table:
        found = self.recommender.table(table)
        scores = found["scores"].combine_chunks()
        reference = pa.array(scores.values.to_numpy() * np.float32(self._scale), pa.float32())
        out = table.append_column(CANDIDATES, found["items"])
        out = out.append_column(REFERENCE, pa.ListArray.from_arrays(scores.offsets, reference))
        if self._of == TRAIN:
            return out
        return out.append_column(CHOSEN, pa.array(self._encoder.encode(self._domain, table, where).chosen))


def drawn_order(
    grouping: Grouping,
    experiment: Experiment,
    keys: np.ndarray,
    scale: float,
    table: pa.Table,
    scores: Tensor,
    at: Tensor,
) -> Tensor:
    """``[B, G]`` int64 places of items drawn without replacement, each next one with a probability in proportion to the exponential of
    its score x ``scale`` / the temperature: those whose score and Gumbel noise are highest together (Kool et al., "Stochastic Beams and
    Where to Find Them", 2019). The noise follows from the seed, what is known of the row, and the item, so not from the rest of the batch.

    Args:
        grouping: how many are drawn, from how many.
        experiment: the generator's.
        keys: ``[C]`` uint64 of all items.
        scale: of scores.
        table: the B rows.
        scores: ``[B, N]`` of their best items, minus infinity: none.
        at: ``[B, N]`` int64 positions of these among all items.
    """
    if grouping.size == grouping.pool:
        return torch.arange(min(grouping.size, scores.shape[1])).expand(len(scores), -1)
    of_row = row_keys(experiment, table)
    bits = mix(mix(of_row)[:, None] ^ mix(keys[at.numpy()] + _SEED))
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    noisy = scores.double() * (scale / grouping.temperature) - torch.from_numpy(-np.log(uniform)).log()
    noisy = noisy.masked_fill(scores == NEVER, NEVER)
    return noisy.sort(dim=1, descending=True, stable=True).indices[:, : grouping.size]


def row_keys(experiment: Experiment, table: pa.Table) -> np.ndarray:
    """``[B]`` uint64 of rows, by the experiment's seed, their user and history."""
    user = experiment.entities.user
    assert user.history is not None  # a next-item objective needs one
    keys, offsets = ragged_keys(table[user.history.column], _WHOLE)
    place = np.arange(len(keys)) - np.repeat(offsets[:-1], np.diff(offsets))
    mixed = np.concatenate([np.zeros(1, np.uint64), mix(keys + mix(place.astype(np.uint64)))])
    # A sum of a row is the difference of two running ones, exact in whole numbers that wrap around.
    sums = np.cumsum(mixed, dtype=np.uint64)
    of_user, _ = id_keys(table[user.id])
    return mix(of_user + np.uint64(experiment.seed)) ^ (sums[offsets[1:]] - sums[offsets[:-1]])
