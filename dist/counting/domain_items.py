"""The items of each domain: those that its training events name, of all increments so far."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ...data.arrow.ids import id_keys
from ...data.config.experiment import Experiment
from ...data.counting.shares import Ranks
from ...data.counting.statistics import Statistics
from ...data.events.bad_rows import read_good_rows
from ...data.events.event_files import EventFiles
from ...data.schema.column_needs import needed_columns
from ...data.schema.layout import id_key
from ...data.vocabulary.managed import ManagedIds


def with_domain_items(
    experiment: Experiment,
    statistics: Statistics,
    train: Mapping[str, EventFiles],
    ranks: Ranks,
    before: Statistics | None = None,
) -> Statistics:
    """Statistics with the items of each domain, where the model seeks a next one. A collective.

    Of managed ids, one of an earlier increment that has lost its row is none any more.

    Args:
        experiment: the experiment.
        statistics: of its training events, and of those of earlier increments; with the items of these events alone, or none.
        train: domain -> its training files.
        ranks: that read them together, each some of the row groups.
        before: of the run that an increment goes on from; None: the items are those of these events alone.
    """
    if experiment.model.next_item is None or (before is not None and not before.items):
        return statistics  # an older version has not kept those of before
    table, items = statistics.tables[id_key("item")], dict[str, np.ndarray]()
    for name, files in train.items():
        found = statistics.items[name] if name in statistics.items else named_items(experiment, name, files, ranks)
        if before is not None and name in before.items:
            earlier = before.items[name]
            if isinstance(table, ManagedIds):
                earlier = earlier[table.lookup(earlier) > 0]
            found = np.union1d(found, earlier)
        items[name] = found
    return replace(statistics, items=items)


def named_items(experiment: Experiment, domain: str, files: EventFiles, ranks: Ranks) -> np.ndarray:
    """``[N]`` uint64 keys, increasing, of the items that a domain's events name, on every rank. A collective: each reads some of the row groups."""
    column, needs = experiment.entities.item.id, needed_columns(experiment, domain)
    mine = np.zeros(0, np.uint64)
    for path, group in files.row_groups[ranks.rank :: ranks.world_size]:
        keys, known = id_keys(read_good_rows(path, group, needs, [column], experiment.bad_data)[column])
        mine = np.union1d(mine, keys[known])
    return np.unique(np.concatenate(ranks.exchange([mine] * ranks.world_size)))
