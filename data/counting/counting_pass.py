"""The counting pass: one reading of the training events, by one process or by many ranks, and one of the catalogs."""

from collections.abc import Callable, Mapping

import numpy as np

from ..arrow.ids import id_keys, mix
from ..arrow.moments import add_moments, mean_deviation
from ..catalogs.catalog import read_catalog_features
from ..config.experiment import Experiment
from ..config.sections.task import Scale
from ..contents.content_store import open_store, store_folder
from ..contents.leading_directions import directions_of
from ..events.bad_rows import Skipped
from ..events.check_events import id_types, unsigned_ids
from ..events.event_files import EventFiles
from ..features.counts import Counts
from ..prefetch import prefetch
from ..rates.columns import rate_columns
from ..schema.layout import id_key
from ..vocabulary.encoding import Encoded
from ..vocabulary.key_counts import ExactCounts
from .shares import ONE_RANK, Ranks, exchanged, on_all, shares_of
from .statistics import Statistics
from .tally import Tally, event_features, nothing, read_shares


def count(
    experiment: Experiment,
    train: Mapping[str, EventFiles],
    progress: Callable[[int], None] = lambda rows: None,
    ranks: Ranks = ONE_RANK,
) -> Statistics:
    """Reads the training events once, one row group at a time.

    Memory grows with the number of distinct ids, not with the number of rows.

    Args:
        experiment: the experiment.
        train: domain -> its training files.
        progress: called with the number of rows just counted by this rank.
        ranks: that count together, each some shares of the rows. What comes out is the same on each, and for any number of them.

    Raises:
        UserError: a bad catalog, a bad dense value, more bad rows than `bad_data` allows, or, where there is a list loss, a list
            that is scattered or too long.
    """
    shares = shares_of(train)
    tally = Tally(experiment)
    for share, group, table, bad in prefetch(read_shares(experiment, shares[ranks.rank :: ranks.world_size]), 2):
        tally.add(share, group, table, bad)
        if bad:  # others can only find more
            tally.skipped(share.domain).check(share.domain, train[share.domain].rows, experiment.bad_data)
        progress(table.num_rows)
    found = dict(pair for of_rank in ranks.gather_all(tally.shares) for pair in of_rank.items())
    numbers = {name: nothing(experiment, name) for name in train}
    for number in sorted(found):
        numbers[found[number].domain].add(found[number])
    skipped = Skipped()
    for name, of_domain in numbers.items():
        of_domain.skipped.check(name, train[name].rows, experiment.bad_data)
        skipped.add_those_of(of_domain.skipped)
    most = experiment.training.batch_size
    lists = {name: of.lists.marks(most) for name, of in numbers.items() if of.lists is not None}
    counts = Counts()
    for name, encoding in _tables(experiment, train).items():
        mine = tally.counts.of_ids.get(name, encoding.ids.counts())
        counts.ids(name, encoding).add_counted(*_of_all_ranks(*mine.held(), ranks))
    for of_domain in numbers.values():
        counts.add_moments(of_domain.moments)
    _count_catalogs(experiment, counts)
    for name, feature in experiment.features().items():  # tables that no domain reads are there, too, and empty
        for key, encoding in feature.inputs(name).encodings.items():
            counts.ids(key, encoding)
    scaled: dict[str, np.ndarray] = {}  # one task's in all domains together
    for of_domain in numbers.values():
        for task, more in of_domain.scaled.items():
            scaled[task] = add_moments(scaled.get(task, np.zeros(3)), more)
    sizes = {of.name: open_store(store_folder(experiment, of)).size for of in experiment.stores_read()}
    return Statistics(
        tables=counts.tables(),
        dense=counts.dense(),
        labels={name: of_domain.labels for name, of_domain in numbers.items()},
        rows={name: files.rows for name, files in train.items()},
        content_sizes=sizes,
        skipped=skipped,
        id_types=id_types(experiment, train),
        unsigned=unsigned_ids(experiment, train),
        scales={task: Scale(*mean_deviation(moments)) for task, moments in scaled.items()},
        lists=lists,
        outcomes={name: of_domain.outcomes for name, of_domain in numbers.items()},
        rate_columns=rate_columns(experiment),
        directions=directions_of(experiment),
    )


def _tables(experiment: Experiment, train: Mapping[str, EventFiles]) -> dict[str, Encoded]:
    """Embedding tables whose ids are in events, domain after domain; and of every entity, which has a table though no event names one."""
    found: dict[str, Encoded] = {}
    ids = {id_key(name): entity for name, entity in experiment.looked_up().items()}
    for domain in train:
        found |= {key: of for key, of in ids.items() if not experiment.domains[domain].lacks(key.removeprefix("id_"))}
        for name, feature in event_features(experiment, domain).items():
            found |= feature.inputs(name).encodings
    return found | ids


def _of_all_ranks(keys: np.ndarray, counts: np.ndarray, ranks: Ranks) -> tuple[np.ndarray, np.ndarray]:
    """``[K]`` uint64, each once, and ``[K]`` int64, how often all ranks together have it; each rank adds up a part of them.

    Args:
        keys: ``[N]`` uint64 of this rank, each once.
        counts: ``[N]`` int64.
        ranks: all of them.
    """
    if ranks.world_size == 1:
        return keys, counts
    owners = (mix(keys) % np.uint64(ranks.world_size)).astype(np.int64)
    owned = ExactCounts()
    for of_rank in exchanged(ranks, owners, _packed(keys, counts)):
        owned.add_counted(*_unpacked(of_rank))
    return _unpacked(on_all(ranks, _packed(*owned.held())))


def _packed(keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.column_stack([keys.view(np.int64), counts])


def _unpacked(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return rows[:, 0].view(np.uint64), rows[:, 1]


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
