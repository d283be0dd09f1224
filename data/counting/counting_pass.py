"""The counting pass: one reading of the training events, and one of the catalogs."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from ..arrow.column_types import VECTOR
from ..arrow.ids import id_keys
from ..arrow.moments import add_moments, mean_deviation
from ..arrow.values import ragged_keys
from ..catalogs.catalog import read_catalog_features
from ..config.experiment import Experiment
from ..config.sections.task import Scale
from ..contents.content_store import open_store, store_folder
from ..contents.leading_directions import directions_of
from ..events.bad_rows import Skipped, read_events
from ..events.check_events import id_types, unsigned_ids
from ..events.event_files import EventFiles
from ..features.counts import Counts
from ..features.feature import Feature
from ..prefetch import prefetch
from ..rates.columns import rate_columns
from ..schema.bad_values import BadValue, refuse_beside, rows_of
from ..schema.column_needs import needed_columns
from ..schema.labels import read_labels, read_weights
from ..schema.layout import id_key
from .list_marks import ListCounter
from .statistics import Statistics


def count(
    experiment: Experiment,
    train: Mapping[str, EventFiles],
    progress: Callable[[int], None] = lambda rows: None,
) -> Statistics:
    """Reads the training events once, one row group at a time.

    Memory grows with the number of distinct ids, not with the number of rows.

    Args:
        experiment: the experiment.
        train: domain -> its training files.
        progress: called with the number of rows just counted.

    Raises:
        UserError: a bad catalog, a bad dense value, more bad rows than `bad_data` allows, or, where there is a list loss, a list
            that is scattered or too long.
    """
    skipped = Skipped()
    counts = Counts()
    entities = experiment.looked_up()
    labels: dict[str, dict[str, list[float]]] = {
        name: {task: [0, 0] for task in experiment.domains[name].tasks} for name in train
    }
    outcomes: dict[str, dict[str, list[int]]] = {
        name: {task: [0, 0] for task, of in experiment.domains[name].tasks.items() if of.parent} for name in train
    }
    moments: dict[str, np.ndarray] = {}  # of labels, one task's in all domains together
    features = {name: _event_features(experiment, name) for name in train}
    lists = {
        name: ListCounter(name, column)
        for name in train
        if (column := experiment.domains[name].list_column) and experiment.domains[name].whole_lists
    }
    # Ahead of the counting, which takes as long as decoding.
    for name, path, group, table, bad in prefetch(_read_all(experiment, train), 2):
        if name in lists:
            lists[name].add(table[lists[name].column], path, group)
        if bad:
            skipped.add(name, path, group, bad)
            skipped.check(name, train[name].rows, experiment.bad_data)
            table = table.filter(pa.array(~rows_of(bad, table.num_rows)))
        for entity_name, entity in entities.items():
            if not experiment.domains[name].lacks(entity_name):
                counts.ids(id_key(entity_name), entity).add(*id_keys(table[entity.id]))
        objective = experiment.model.next_item
        if objective is not None and objective.positions == "all" and experiment.domains[name].users:
            # Past items are then learned from as the row's own is.
            history = experiment.entities.user.history
            assert history is not None  # `load` has seen to it
            keys, _ = ragged_keys(table[history.column], history.max_length)
            counts.ids(id_key("item"), experiment.entities.item).add(keys, np.ones(len(keys), bool))
        for feature_name, feature in features[name].items():
            if all(need.name in table.column_names for need in feature.needs(feature_name, "")):
                feature.count(feature_name, table, f"{path}: row group {group}", counts, None)
        for task_name, task in experiment.domains[name].tasks.items():
            values = read_labels(experiment.domains[name], task_name, table)
            if (weights := read_weights(experiment.domains[name], task_name, table)) is not None:
                values = np.where(weights > 0, values, np.nan)  # nobody learns from the others
            labels[name][task_name][0] += int((~np.isnan(values)).sum())
            if task.parent is not None:
                before = read_labels(experiment.domains[name], task.parent, table) > 0
                outcomes[name][task_name][0] += int(before.sum())
                outcomes[name][task_name][1] += int((before & ~np.isnan(values)).sum())
            total = float(np.nansum(values))
            labels[name][task_name][1] += int(total) if total.is_integer() else total
            if (scaled := task.scaled(values[~np.isnan(values)])) is not None:
                moments[task_name] = add_moments(moments.get(task_name, np.zeros(3)), scaled)
        progress(table.num_rows)
    marks = {name: counter.marks(experiment.training.batch_size) for name, counter in lists.items()}
    for entity_name, entity in entities.items():
        counts.ids(id_key(entity_name), entity)  # an entity no event names still has its (empty) table
    _count_catalogs(experiment, counts)
    for name, feature in experiment.features().items():  # and so have its features, where no domain reads them
        for key, encoding in feature.inputs(name).encodings.items():
            counts.ids(key, encoding)
    sizes = {of.name: open_store(store_folder(experiment, of)).size for of in experiment.stores_read()}
    rows = {name: files.rows for name, files in train.items()}
    types, unsigned = id_types(experiment, train), unsigned_ids(experiment, train)
    scales = {task: Scale(*mean_deviation(each)) for task, each in moments.items()}
    known = (counts.tables(), counts.dense(), labels, rows, sizes, skipped)
    return Statistics(
        *known,
        id_types=types,
        unsigned=unsigned,
        scales=scales,
        lists=marks,
        outcomes=outcomes,
        rate_columns=rate_columns(experiment),
        directions=directions_of(experiment),
    )


def _read_all(
    experiment: Experiment, train: Mapping[str, EventFiles]
) -> Iterator[tuple[str, str, int, pa.Table, list[BadValue]]]:
    """Domain, file, row group, its rows and what is bad in them; without vectors, unless bad ones are to be counted."""
    policy = experiment.bad_data
    for name, files in train.items():
        needs = [need for need in needed_columns(experiment, name) if policy.skips or need.holds != VECTOR]
        for path, group in files.row_groups:
            table, bad = read_events(path, group, needs, policy)
            if not policy.skips:
                refuse_beside(table, needs, f"{path}: row group {group}")
            yield name, path, group, table, bad


def _event_features(experiment: Experiment, domain: str) -> dict[str, Feature]:
    features: dict[str, Feature] = {}
    for name, entity in experiment.entities.present().items():
        if experiment.domains[domain].lacks(name):
            continue
        features |= {n: f for n, f in entity.features.items() if not entity.comes_from_catalog(f)}
    return features | experiment.context | experiment.domains[domain].features


def _count_catalogs(experiment: Experiment, counts: Counts) -> None:
    """Counts catalog features as often as training events show them, so that rare means rare in training."""
    for entity_name, entity in experiment.entities.present().items():
        if entity.catalog is None:
            continue
        features, catalog = read_catalog_features(entity_name, entity)
        weights = None
        if entity_name in experiment.looked_up():
            # Every id counts here, also those too rare for a row of their own: a common brand may have only rare items.
            id_table = counts.ids(id_key(entity_name), entity).table(min_count=1)
            weights = id_table.counts[id_table.lookup(id_keys(catalog[entity.catalog.key])[0])]
        for name, feature in features.items():
            feature.count(name, catalog, entity.catalog.path, counts, weights)
