"""A pass over the training events that adds up what their labels say of ids and categories."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from ..arrow.ids import mix
from ..arrow.times import seconds
from ..config.experiment import Experiment
from ..counting.shares import ONE_RANK, Group, Ranks, Share, exchanged, on_all, shares_of
from ..counting.statistics import Statistics
from ..events.bad_rows import read_events, read_good_rows
from ..events.event_files import EventFiles
from ..prefetch import prefetch
from ..rates.columns import columns_of, in_folds, rate_keys, rate_tables, rate_tasks
from ..rates.parts import Parts, Place
from ..rates.rates import Rates
from ..rates.so_far import RatesSoFar
from ..rates.sums import CellSums, Labels, rate_table
from ..schema.column_needs import needed_columns, time_of_rates
from ..vocabulary.vocabulary import Vocabulary
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
    ranks: Ranks = ONE_RANK,
    earlier: RatesSoFar | None = None,
) -> Rates:
    """Reads the training events once more. Memory grows with the distinct pairs of an id and a part.

    Args:
        encoder: of the experiment, without rates.
        train: domain -> its training files.
        before: the moments of columns of a run to fine-tune, whose weights know them by these; new columns get their own.
        progress: called with the number of rows just counted by this rank.
        ranks: that add up together, each some shares of the rows. What comes out is the same on each, and for any number of them.
        earlier: what these rates go on with, as of `earlier_rates`, all of which is known to every row; None: they are of these rows alone.
    """
    experiment, layout = encoder.experiment, encoder.layout
    shares, tasks, entities = shares_of(train), rate_tasks(experiment), rate_keys(experiment)
    mine = shares[ranks.rank :: ranks.world_size]
    parts = Parts(_bounds(experiment, mine, sum(share.rows for share in shares), ranks), earlier is not None)
    adding = {name: CellSums(len(tasks)) for name, _, _ in rate_tables(experiment)}
    labels: dict[int, tuple[int, np.ndarray]] = {}  # number of a share -> its domain, and what its labels add up to
    reading = prefetch(_read_all(encoder, mine, parts), 2)
    for _ in range(0, len(shares), ranks.world_size):  # one share of each rank
        of_share = {name: CellSums(len(tasks)) for name in adding}
        for share, rows, values, added, is_last in reading:
            so_far = labels.get(share, (0, np.zeros((len(tasks), 3))))[1]
            labels[share] = rows.domain, so_far + _moments(values)
            ids, labelled = ids_of(experiment, layout, rows), (values[:, 0::2] > 0).any(1)
            for name, key, _ in rate_tables(experiment):
                seen = (ids[name] >= 0) & labelled
                of_share[name].add((ids[name] * parts.count + added[entities[key]])[seen], values[seen])
            progress(len(rows))
            if is_last:
                break
        for name, sums in of_share.items():
            cells, values = sums.merged()
            owners = mix((cells // parts.count).view(np.uint64)) % np.uint64(ranks.world_size)
            for of_rank in exchanged(ranks, owners, cells, values):  # in the order of the shares, whoever read them
                adding[name].add(*of_rank)
    of_labels = np.zeros((len(layout.domains), len(tasks), 3))
    of_shares = dict(pair for of_rank in ranks.gather_all(labels) for pair in of_rank.items())
    for share in sorted(of_shares):
        domain, moments = of_shares[share]
        of_labels[domain] += moments
    of_labels = np.concatenate([of_labels, of_labels.sum(0, keepdims=True)])
    if earlier is not None:  # what rates were measured by stays
        of_labels = np.where(earlier.labels[:, :, :1] > 0, earlier.labels, of_labels)
    kinds = {task: kind for domain in experiment.domains.values() for task, kind in domain.tasks.items()}
    binary = np.array([type(kinds[task]).of_conditions for task in tasks])
    *of_each, of_all = (Labels.of(each, binary) for each in of_labels)
    tables, moments, so_far = {}, {}, {}
    for name, _, here in rate_tables(experiment):
        columns = columns_of(name, tasks)
        known = np.array([before.get(column, (np.nan, np.nan)) for column in columns])
        cells, sums = on_all(ranks, *adding.pop(name).merged())
        then = None if earlier is None else earlier.tables.get(name)
        if then is not None:
            cells, sums = np.concatenate([then.ids * parts.count, cells]), np.concatenate([then.sums, sums])
        order = np.argsort(cells, kind="stable")  # each rank's are increasing
        labels_of, priors = of_each if here else [of_all], None if then is None else then.priors
        tables[name], found, so_far[name] = rate_table(cells[order], sums[order], parts, labels_of, known, priors)
        moments |= dict(zip(columns, map(tuple, found.tolist()), strict=True))
    return Rates(parts, tables, moments, RatesSoFar(layout.domains, tasks, of_labels, so_far))


def earlier_rates(before: Statistics, encoder: RowEncoder) -> RatesSoFar | None:
    """What the rates of an increment go on with; None where the run that it goes on from has kept nothing.

    Args:
        before: of that run.
        encoder: of the increment, without rates.
    """
    if before.rates is None or before.rates.so_far is None:
        return None
    experiment, layout, given_up = encoder.experiment, encoder.layout, {}
    for key in rate_keys(experiment):
        now, then = (of.tables.get(layout.table_of[key]) for of in (encoder.statistics, before))
        if isinstance(now, Vocabulary) and isinstance(then, Vocabulary):
            given_up[key], _ = now.changed(then)
    return before.rates.so_far.following(layout.domains, rate_tasks(experiment), rate_tables(experiment), given_up)


def rate_matrix(encoder: RowEncoder, domain: str, files: EventFiles, of_training: bool) -> np.ndarray:
    """``[N, K]`` float32, the rates of all rows of some files of a domain, as the model gets them; ``layout.rates`` names them.

    Args:
        encoder: of a run with rates.
        domain: its name.
        files: of the domain.
        of_training: whether they are those whose labels the rates are made of.
    """
    groups = [group for share in shares_of({domain: files}) for group in share.groups]
    every = [_read(encoder, domain, group, of_training)[1] for group in groups]
    return np.concatenate([rows.dense[:, encoder.layout.rates] for rows in every])


def _read(encoder: RowEncoder, domain: str, group: Group, placed: bool) -> tuple[pa.Table, Rows]:
    """The events of a row group and its rows, whose rates know where it stands, if it is ``placed``."""
    needs = needed_columns(encoder.experiment, domain)
    table, _ = read_events(group.path, group.number, needs, encoder.experiment.bad_data)
    where, place = f"{group.path}: row group {group.number}", Place(group.file, group.number)
    return table, encoder.encode(domain, table, where, place=place if placed else None)


def _bounds(experiment: Experiment, shares: Sequence[Share], rows: int, ranks: Ranks) -> np.ndarray | None:
    """Of blocks of as many rows each as equal times allow; None for folds.

    Args:
        experiment: the experiment.
        shares: that this rank reads.
        rows: of all shares.
        ranks: all of them.
    """
    if in_folds(experiment):
        return None
    every = max(1, rows // _TIMES)
    found = [np.zeros(0)]
    for share in shares:
        needs, column = needed_columns(experiment, share.domain), str(time_of_rates(experiment, share.domain))
        for group in share.groups:
            table = read_good_rows(group.path, group.number, needs, [column], experiment.bad_data)
            found.append(seconds(table[column])[::every])
    times = np.sort(np.concatenate(ranks.gather_all(np.concatenate(found))))
    times = times[~np.isnan(times)]
    return np.unique(times[np.arange(1, BLOCKS) * len(times) // BLOCKS]) if len(times) else times


def _read_all(
    encoder: RowEncoder, shares: Sequence[Share], parts: Parts
) -> Iterator[tuple[int, Rows, np.ndarray, Mapping[str, np.ndarray], bool]]:
    """Number of a share, rows, what is added up of them, by entity the parts to which it is, and whether they are the share's last."""
    experiment = encoder.experiment
    for share in shares:
        for group in share.groups:
            table, rows = _read(encoder, share.domain, group, placed=False)
            of_rows = parts.of_rows(experiment, share.domain, table, Place(group.file, group.number))
            added = {entity: each.added for entity, each in of_rows.items()}
            yield share.number, rows, _values(experiment, encoder, rows), added, group == share.groups[-1]


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
