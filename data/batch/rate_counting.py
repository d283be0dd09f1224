"""A pass over the training events that adds up what their labels say of ids and categories."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from ..arrow.times import seconds
from ..config.experiment import Experiment
from ..events.bad_rows import read_events, read_good_rows
from ..events.event_files import EventFiles
from ..prefetch import prefetch
from ..rates.columns import columns_of, in_folds, rate_keys, rate_tables, rate_tasks
from ..rates.parts import Parts, Place
from ..rates.rates import Rates
from ..rates.sums import CellSums, Labels, rate_table
from ..schema.column_needs import needed_columns, time_of_rates
from .rate_columns import ids_of
from .row_encoder import RowEncoder
from .rows import Rows

BLOCKS = 64
_TIMES = 1 << 22  # that the bounds of blocks are found among


def count_rates(
    encoder: RowEncoder,
    train: Mapping[str, EventFiles],
    before: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    progress: Callable[[int], None] = lambda rows: None,
) -> Rates:
    """Reads the training events once more. Memory grows with the distinct pairs of an id and a part.

    Args:
        encoder: of the experiment, without rates.
        train: domain -> its training files.
        before: the moments of columns of a run to fine-tune, whose weights know them by these; new columns get their own.
        progress: called with the number of rows just counted.
    """
    experiment, layout = encoder.experiment, encoder.layout
    parts = _parts(experiment, train)
    entities, tasks, domains = rate_keys(experiment), rate_tasks(experiment), len(layout.domains)
    adding = {name: CellSums(len(tasks)) for name, _, _ in rate_tables(experiment)}
    of_labels = np.zeros((domains, len(tasks), 3))
    for rows, values, added in prefetch(_read_all(encoder, train, parts), 2):
        of_labels[rows.domain] += _moments(values)
        ids, labelled = ids_of(experiment, layout, rows), (values[:, 0::2] > 0).any(1)
        for name, key, _ in rate_tables(experiment):
            seen = (ids[name] >= 0) & labelled
            adding[name].add((ids[name] * parts.count + added[entities[key]])[seen], values[seen])
        progress(len(rows))
    kinds = {task: kind for domain in experiment.domains.values() for task, kind in domain.tasks.items()}
    binary = np.array([type(kinds[task]).of_conditions for task in tasks])
    of_all, of_each = Labels.of(of_labels.sum(0), binary), [Labels.of(each, binary) for each in of_labels]
    tables, moments = {}, {}
    for name, _, here in rate_tables(experiment):
        columns = columns_of(name, tasks)
        known = np.array([before.get(column, (np.nan, np.nan)) for column in columns])
        tables[name], found = rate_table(*adding.pop(name).merged(), parts, of_each if here else [of_all], known)
        moments |= dict(zip(columns, map(tuple, found.tolist()), strict=True))
    return Rates(parts, tables, moments)


def rate_matrix(encoder: RowEncoder, domain: str, files: EventFiles, of_training: bool) -> np.ndarray:
    """``[N, K]`` float32, the rates of all rows of some files of a domain, as the model gets them; ``layout.rates`` names them.

    Args:
        encoder: of a run with rates.
        domain: its name.
        files: of the domain.
        of_training: whether they are those whose labels the rates are made of.
    """
    every = _row_groups(encoder, domain, files, of_training)
    return np.concatenate([rows.dense[:, encoder.layout.rates] for _, rows, _ in every])


def _row_groups(
    encoder: RowEncoder, domain: str, files: EventFiles, placed: bool
) -> Iterator[tuple[pa.Table, Rows, Place]]:
    """The events of each row group, its rows, and where it stands, which rates know where it is ``placed``."""
    needs = needed_columns(encoder.experiment, domain)
    for number, (path, groups) in enumerate(zip(files.files, files.group_rows, strict=True)):
        for group in range(len(groups)):
            table, _ = read_events(path, group, needs, encoder.experiment.bad_data)
            place = Place(number, group)
            where = f"{path}: row group {group}"
            yield table, encoder.encode(domain, table, where, place=place if placed else None), place


def _parts(experiment: Experiment, train: Mapping[str, EventFiles]) -> Parts:
    """Blocks of as many rows each as equal times allow, or folds."""
    if in_folds(experiment):
        return Parts(None)
    every = max(1, sum(files.rows for files in train.values()) // _TIMES)
    found = []
    for name, files in train.items():
        needs, column = needed_columns(experiment, name), str(time_of_rates(experiment, name))
        for path, group in files.row_groups:
            found.append(seconds(read_good_rows(path, group, needs, [column], experiment.bad_data)[column])[::every])
    times = np.sort(np.concatenate(found))
    times = times[~np.isnan(times)]
    return Parts(np.unique(times[np.arange(1, BLOCKS) * len(times) // BLOCKS]) if len(times) else times)


def _read_all(
    encoder: RowEncoder, train: Mapping[str, EventFiles], parts: Parts
) -> Iterator[tuple[Rows, np.ndarray, Mapping[str, np.ndarray]]]:
    """Rows, what is added up of them, and by entity the parts to which it is."""
    experiment = encoder.experiment
    for name, files in train.items():
        for table, rows, place in _row_groups(encoder, name, files, placed=False):
            of_rows = parts.of_rows(experiment, name, table, place)
            yield rows, _values(experiment, encoder, rows), {e: each.added for e, each in of_rows.items()}


def _values(experiment: Experiment, encoder: RowEncoder, rows: Rows) -> np.ndarray:
    """``[N, 2 T]`` float64, of each task the weight of the row's label, 0 where it has none, and the weighted label."""
    layout = encoder.layout
    config = experiment.domains[layout.domains[rows.domain]]
    out = np.zeros((len(rows), 2 * len(layout.tasks)))
    for name, task in config.tasks.items():
        at = layout.tasks.index(name)
        weights, labels = rows.label_mask[:, at].astype(np.float64), rows.labels[:, at].astype(np.float64)
        if rows.weights is not None:
            weights *= rows.weights[:, at]
        if task.parent is not None:  # a rate among rows in which the other event happened
            weights *= rows.labels[:, layout.tasks.index(task.parent)] > 0
        if task.offset:  # events show a share of the rows with label 0, each of which stands for several
            weights = np.where(labels > 0, weights, weights * np.exp(task.offset))
        out[:, 2 * at], out[:, 2 * at + 1] = weights, weights * labels
    return out


def _moments(values: np.ndarray) -> np.ndarray:
    """``[T, 3]``, as of `Labels.of`."""
    weights, weighted = values[:, 0::2], values[:, 1::2]
    squares = weighted**2 / np.where(weights > 0, weights, 1)
    return np.stack([weights.sum(0), weighted.sum(0), squares.sum(0)], 1)
