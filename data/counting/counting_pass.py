"""The counting pass: one reading of the training events, by one process or by many ranks, and one of the catalogs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

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
from .pieces import Piece, Pieces, read_piece
from .shares import ONE_RANK, Ranks, exchanged, on_all, shares_of
from .statistics import Statistics
from .tally import ShareNumbers, Tally, event_features, nothing, read_shares

_NO_IDS = np.zeros(0, np.uint64), np.zeros(0, np.int64)


def count(
    experiment: Experiment,
    train: Mapping[str, EventFiles],
    progress: Callable[[int], None] = lambda rows: None,
    ranks: Ranks = ONE_RANK,
    kept: Path | None = None,
) -> Statistics:
    """Reads the training events once, one row group at a time.

    Memory grows with the number of distinct ids, not with the number of rows.

    Args:
        experiment: the experiment.
        train: domain -> its training files.
        progress: called with the number of rows just counted by this rank.
        ranks: that count together, each some shares of the rows. What comes out is the same on each, and for any number of them.
        kept: folder for what has been counted so far of this very data: a counting that was interrupted goes on from there, with any
            number of ranks. Whoever gave it removes it.

    Raises:
        UserError: a bad catalog, a bad dense value, more bad rows than `bad_data` allows, or, where there is a list loss, a list
            that is scattered or too long.
    """
    pieces, shares = Pieces(kept, ranks), shares_of(train)
    left = [share for share in shares if share.number not in pieces.done]
    progress(sum(share.rows for share in shares if share.number in pieces.done) // ranks.world_size)
    tally, bad_here = Tally(experiment), Skipped()
    for share, group, table, bad in prefetch(read_shares(experiment, left[ranks.rank :: ranks.world_size]), 2):
        tally.add(share, group, table, bad)
        if bad:  # there can only be more
            bad_here.add(share.domain, group.path, group.number, bad)
            bad_here.check(share.domain, train[share.domain].rows, experiment.bad_data)
        progress(table.num_rows)
        if group == share.groups[-1] and pieces.is_due():
            pieces.write(tally)
            tally = Tally(experiment)
    last = Piece.of(tally)
    del tally  # which holds a hashed table's buckets, used or not
    counts, found = _of_all_ranks(experiment, train, [*pieces.mine, last], ranks)
    numbers = {name: nothing(experiment, name) for name in train}
    for number in sorted(found):
        numbers[found[number].domain].add(found[number])
    skipped = Skipped()
    for name, of_domain in numbers.items():
        of_domain.skipped.check(name, train[name].rows, experiment.bad_data)
        skipped.add_those_of(of_domain.skipped)
    most = experiment.training.batch_size
    lists = {name: of.lists.marks(most) for name, of in numbers.items() if of.lists is not None}
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


def _of_all_ranks(
    experiment: Experiment, train: Mapping[str, EventFiles], pieces: Sequence[Path | Piece], ranks: Ranks
) -> tuple[Counts, dict[int, ShareNumbers]]:
    """What the pieces of all ranks say together, on each; each rank adds up the ids that it owns.

    Args:
        experiment: the experiment.
        train: domain -> its training files.
        pieces: of this rank, one of which is held at a time.
        ranks: all of them.
    """
    tables = _tables(experiment, train)
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
