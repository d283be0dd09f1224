"""The counting pass: one reading of the training events, by one process or by many ranks, and one of the catalogs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..arrow.ids import id_keys, mix
from ..arrow.moments import add_moments, deviation_of, mean_deviation, to_divide_by
from ..catalogs.catalog import read_catalog_features
from ..codes.code_store import identities
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
from ..vocabulary.managed import ManagedIds
from .count_tables import CountTables
from .pieces import Piece, Pieces, read_piece
from .read_tables import read_tables
from .shares import ONE_RANK, Ranks, exchanged, on_all, shares_of
from .statistics import Statistics
from .tally import EventCounts, ShareNumbers, Tally, event_tables, nothing, read_shares

_NO_IDS = np.zeros(0, np.uint64), np.zeros(0, np.int64)


def count(
    experiment: Experiment,
    train: Mapping[str, EventFiles],
    progress: Callable[[int], None] = lambda rows: None,
    ranks: Ranks = ONE_RANK,
    kept: Path | None = None,
) -> Statistics:
    """What training must know of its events: `statistics_of` what `count_events` has found."""
    return statistics_of(experiment, train, count_events(experiment, train, progress, ranks, kept))


def count_events(
    experiment: Experiment,
    train: Mapping[str, EventFiles],
    progress: Callable[[int], None] = lambda rows: None,
    ranks: Ranks = ONE_RANK,
    kept: Path | None = None,
    given: CountTables | None = None,
) -> EventCounts:
    """Reads the training events once, one row group at a time.

    Memory grows with the number of distinct ids, not with the number of rows.

    Args:
        experiment: the experiment.
        train: domain -> its training files.
        progress: called with the number of rows just counted by this rank.
        ranks: that count together, each some shares of the rows. What comes out is the same on each, and for any number of them.
        kept: folder for what has been counted so far of this very data: a counting that was interrupted goes on from there, with any
            number of ranks. Whoever gave it removes it.
        given: what was counted elsewhere of ids and numbers; only labels, weights and lists are read then.

    Raises:
        UserError: a bad dense value, more bad rows than `bad_data` allows, or a bad value in what is given.
    """
    told = None if given is None else read_tables(experiment, train, given)  # first, since it may be refused
    pieces, shares, labels_alone = Pieces(kept, ranks), shares_of(train), given is not None
    left = [share for share in shares if share.number not in pieces.done]
    progress(sum(share.rows for share in shares if share.number in pieces.done) // ranks.world_size)
    tally, bad_here = Tally(experiment, labels_alone), Skipped()
    mine = left[ranks.rank :: ranks.world_size]
    for share, group, table, bad in prefetch(read_shares(experiment, mine, labels_alone), 2):
        tally.add(share, group, table, bad)
        if bad:  # there can only be more
            bad_here.add(share.domain, group.path, group.number, bad)
            bad_here.check(share.domain, train[share.domain].rows, experiment.bad_data)
        progress(table.num_rows)
        if group == share.groups[-1] and pieces.is_due():
            pieces.write(tally)
            tally = Tally(experiment, labels_alone)
    last = Piece.of(tally)
    del tally  # the piece has it all
    tables = event_tables(experiment, train) if given is None else {}
    counts, found = _of_all_ranks(tables, [*pieces.mine, last], ranks)
    domains = {name: nothing(experiment, name) for name in train}
    for number in sorted(found):
        domains[found[number].domain].add(found[number])
    for name, of_domain in domains.items():
        of_domain.skipped.check(name, train[name].rows, experiment.bad_data)
    if told is not None:
        return EventCounts(*told, domains)
    moments: dict[str, np.ndarray] = {}  # of a column that several domains may have
    for of_domain in domains.values():
        for column, more in of_domain.moments.items():
            moments[column] = add_moments(moments.get(column, np.zeros(3)), more)
    dense = {column: (int(of[0]), float(of[1]), deviation_of(of)) for column, of in moments.items()}
    return EventCounts(counts.of_ids, dense, domains)


def statistics_of(experiment: Experiment, train: Mapping[str, EventFiles], events: EventCounts) -> Statistics:
    """What training must know of its events, by what was counted of them; of catalogs' features it is counted here.

    Args:
        experiment: the experiment.
        train: domain -> its training files.
        events: what was counted of them.

    Raises:
        UserError: a bad catalog; where there is a list loss, a list that is scattered or too long.
    """
    skipped, domains = Skipped(), events.domains
    for of_domain in domains.values():
        skipped.add_those_of(of_domain.skipped)
    most = experiment.training.batch_size
    lists = {name: of.lists.marks(most) for name, of in domains.items() if of.lists is not None}
    counts = Counts()
    counts.of_ids |= events.ids
    for name, entity in experiment.looked_up().items():  # has a table though no event names one
        counts.ids(id_key(name), entity)
    _count_catalogs(experiment, counts)
    for name, feature in experiment.features().items():  # tables that no domain reads are there, too, and empty
        for key, encoding in feature.inputs(name).encodings.items():
            counts.ids(key, encoding)
    newest = max(of_domain.newest for of_domain in domains.values())
    tables = {
        name: table.at(newest) if isinstance(table, ManagedIds) else table for name, table in counts.tables().items()
    }
    scaled: dict[str, np.ndarray] = {}  # one task's in all domains together
    for of_domain in domains.values():
        for task, more in of_domain.scaled.items():
            scaled[task] = add_moments(scaled.get(task, np.zeros(3)), more)
    sizes = {of.name: open_store(store_folder(experiment, of)).size for of in experiment.stores_read()}
    dense = {column: (mean, to_divide_by(mean, deviation)) for column, (_, mean, deviation) in events.dense.items()}
    return Statistics(
        tables=tables,
        dense=dense | counts.dense(),
        labels={name: of_domain.labels for name, of_domain in domains.items()},
        rows={name: files.rows for name, files in train.items()},
        content_sizes=sizes,
        skipped=skipped,
        id_types=id_types(experiment, train),
        unsigned=unsigned_ids(experiment, train),
        scales={task: Scale(*mean_deviation(moments)) for task, moments in scaled.items()},
        lists=lists,
        outcomes={name: of_domain.outcomes for name, of_domain in domains.items()},
        rate_columns=rate_columns(experiment),
        directions=directions_of(experiment),
        codes=identities(experiment),
    )


def _of_all_ranks(
    tables: Mapping[str, Encoded], pieces: Sequence[Path | Piece], ranks: Ranks
) -> tuple[Counts, dict[int, ShareNumbers]]:
    """What the pieces of all ranks say together, on each; each rank adds up the ids that it owns.

    Args:
        tables: whose ids the pieces have counted.
        pieces: of this rank, one of which is held at a time.
        ranks: all of them.
    """
    owned = {name: encoding.ids.counts() for name, encoding in tables.items()}
    shares: dict[int, ShareNumbers] = {}
    for turn in range(max(ranks.gather_all(len(pieces)))):
        given = pieces[turn] if turn < len(pieces) else Piece()
        piece = read_piece(given) if isinstance(given, Path) else given
        shares |= piece.shares
        for name in tables:
            keys, counts = piece.counts.get(name, _NO_IDS)
            owners = mix(keys) % np.uint64(ranks.world_size)
            for of_rank in exchanged(ranks, owners, keys, counts):
                owned[name].add_counted(*of_rank)
    found = Counts()
    for name, encoding in tables.items():
        found.ids(name, encoding).add_counted(*on_all(ranks, *owned.pop(name).held()))
    return found, dict(pair for of_rank in ranks.gather_all(shares) for pair in of_rank.items())


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
