"""The second stage: rewards of the candidates that were found, written beside them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from ...data.arrow.values import ragged_lists
from ...data.config.sections.bad_data import BadDataConfig
from ...data.events.event_files import iterate_group, list_events, open_parquet
from ...data.schema.groups import CANDIDATES, REFERENCE, REWARD
from ...data.storage import storage
from ..logs.progress import Progress
from ..ranks.runtime import Runtime, patiently
from ..score.hive_columns import HiveColumns
from ..score.part_files import unfinished, write_part
from ..score.recommend import best_scores
from ..score.recommend_input import RecommendJob
from ..score.score import summed_up
from ..score.statistics import statistics_of
from ..score.work_list import Part, WorkList, in_turns, planned_parts
from .request import CHOSEN, FOUND, LISTED, REWARDED, TRAIN, AlignJob, columns_of
from .rewards import Rewards, rewards_of


def reward(job: AlignJob, wanted: Sequence[str], runtime: Runtime) -> None:
    """Writes the rewards of what `find` has found of each of ``wanted``; parts that are there are kept. A collective."""
    with patiently(runtime) as ranks:  # of many files what they hold is read
        plan = partial(_planned, job, ranks.on_main(job.settings))
        work = ranks.on_main(lambda: {(of, name): plan(of, name) for of in wanted for name in job.files(of)})
        todo = ranks.on_main(lambda: {key: unfinished(planned) for key, (_, planned) in work.items()})
    if any(todo.values()):
        most = max(job.grouping.size, LISTED)
        rewards = rewards_of(job.reward, job.generator, list(job.events), most, runtime)
        for (of, name), (_, planned) in work.items():
            if todo[of, name]:
                _reward(name, rewards[name], planned, todo[of, name], runtime)
    with patiently(runtime) as ranks:
        for asked, planned in work.values():
            ranks.on_main(lambda asked=asked, planned=planned: summed_up(asked, planned, 0.0, 0.0))


def _reward(domain: str, rewards: Rewards, work: WorkList, todo: list[Part], runtime: Runtime) -> None:
    with Progress(
        f"{domain}: rewarding candidates", "users", sum(part.rows for part in todo), "scoring", runtime.is_main
    ) as done:

        def do(part: Part) -> None:
            names = open_parquet(part.file).schema_arrow.names
            tables = []
            for table in iterate_group(part.file, part.group, names, rewards.rows):
                tables.append(_rewarded(rewards, table, f"{part.file}: row group {part.group}"))
                done.add(table.num_rows * runtime.world_size)
            if not tables:
                empty = open_parquet(part.file).schema_arrow.empty_table()
                tables = [empty.append_column(REWARD, pa.nulls(0, pa.list_(pa.float32())))]
            output = pa.concat_tables(tables)
            write_part(work, part, output, statistics_of(*best_scores(output[REWARD]), part.rows))

        def idle(most: int, rows: int) -> None:
            rewards.idle(-(-most // rewards.rows) - -(-rows // rewards.rows))

        in_turns(todo, runtime, rewards.replicated, do, idle, done)


def _rewarded(rewards: Rewards, table: pa.Table, where: str) -> pa.Table:
    values = rewards.of(table, where).astype(np.float32)
    _, offsets = ragged_lists(table[CANDIDATES])
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values, mask=np.isnan(values)))
    return table.append_column(REWARD, lists)


def _planned(job: AlignJob, told: dict[str, Any], of: str, domain: str) -> tuple[RecommendJob, WorkList]:
    source = job.place(of, FOUND, domain)
    files = list_events(storage.join(source, "*.parquet"), source, BadDataConfig())
    asked = RecommendJob(job.run, source, job.place(of, REWARDED, domain))
    columns = [need.name for need in columns_of(job, domain)] + ([] if of == TRAIN else [CHOSEN])
    there = open_parquet(files.files[0]).schema_arrow.names
    passed_on = {name: "foundrank align" for name in (*columns, CANDIDATES, REFERENCE) if name in there}
    depends = told | {"checkpoint": told["generator"]}
    return asked, planned_parts(asked, depends, files, HiveColumns({}), job.generator, passed_on, {}, claims=True)
