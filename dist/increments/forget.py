"""What a run is to know no more: ids of people who have asked for it, or of items that must go."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...data.catalogs.catalog_files import known_id_types
from ...data.config.experiment import Experiment
from ...data.counting.statistics import Statistics
from ...data.errors import UserError, nearest
from ...data.events.listed_ids import listed_keys
from ...data.rates.columns import rate_tables
from ...data.schema.layout import id_key
from ...data.vocabulary.key_counts import Table
from ...data.vocabulary.managed import ManagedIds
from ..run.run_folder import id_types_of, open_statistics


def statistics_without(forget: Sequence[str], experiment: Experiment, run: Path) -> Statistics | None:
    """What a version of a run has counted, without some ids; None where nothing is known of any of them.

    Args:
        forget: ``ENTITY=FILES``.
        experiment: of the version.
        run: its folder.

    Raises:
        UserError: an entity or a file that is not there, ids of another type, or none; or ids that share their rows, or keep them for good.
    """
    statistics = open_statistics(run, experiment)
    asked = {table: (ids, keys) for table, ids, keys in _asked(forget, experiment, run, statistics.tables)}
    left = {table: without for table, (ids, keys) in asked.items() if (without := ids.without(keys)) is not None}
    if not left:
        return None
    rates, items = statistics.rates, statistics.items
    if rates is not None:
        rows = {table: np.setdiff1d(ids.lookup(keys), [0]) for table, (ids, keys) in asked.items()}
        rates = rates.without({name: rows[key] for name, key, _ in rate_tables(experiment) if key in rows})
    if id_key("item") in asked:
        items = {domain: np.setdiff1d(of, asked[id_key("item")][1]) for domain, of in items.items()}
    return replace(statistics, tables=statistics.tables | left, rates=rates, items=items)


def _asked(
    forget: Sequence[str], experiment: Experiment, run: Path, tables: dict[str, Table]
) -> Iterator[tuple[str, ManagedIds, np.ndarray]]:
    entities, types = experiment.entities.present(), known_id_types(experiment, id_types_of(run))
    keys: dict[str, list[np.ndarray]] = {}
    for given in forget:
        entity, _, files = given.partition("=")
        if entity not in entities or not files:
            remedy = f"Write ENTITY=FILES, e.g. --forget user=gone.parquet. {nearest(entity, entities)}"
            raise UserError(f"--forget {given}", "does not say of which entity the ids are", remedy)
        found = listed_keys(files, "--forget", entity, entities[entity].id, experiment.bad_data, types)
        keys.setdefault(entity, []).append(found)
    for entity, found in keys.items():
        table = tables.get(id_key(entity))
        if not isinstance(table, ManagedIds):
            what = "is not managed, so its ids share their rows, or keep them for good"
            remedy = f"Set it with an update first: --set entities.{entity}.encoding=managed --set entities.{entity}.rows=N, as many as there are ids, or more."
            raise UserError(f"{run}: entities.{entity}.encoding", what, remedy)
        yield id_key(entity), table, np.concatenate(found)
