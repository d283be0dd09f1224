"""What some shares of the training rows say."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ..arrow.column_types import VECTOR
from ..arrow.ids import id_keys
from ..arrow.moments import add_moments, moments_of
from ..arrow.times import seconds
from ..arrow.values import ragged_keys
from ..config.experiment import Experiment
from ..events.bad_rows import Skipped, read_events
from ..features.counts import Counts
from ..features.feature import Feature
from ..schema.bad_values import BadValue, refuse_beside, rows_of
from ..schema.column_needs import label_columns, needed_columns, time_needs
from ..schema.labels import read_labels, read_weights
from ..schema.layout import id_key
from ..vocabulary.encoding import Encoded
from ..vocabulary.key_counts import KeyCounts
from .list_marks import ListCounter
from .shares import Group, Share


@dataclass
class ShareNumbers:
    """What is added up of a share, to be added to others' in order: sums of such numbers are not the same in every order.

    Attributes:
        domain: whose rows they are.
        moments: dense column -> as of `moments_of`.
        labels: task -> [labelled rows, sum of their labels].
        outcomes: as of `Statistics`, of the domain.
        scaled: task -> moments of its labels as its scale is made of them.
        skipped: bad rows.
        lists: where lists begin, of a domain with a list loss.
        newest: time of the newest row, in seconds; -inf where none is known.
    """

    domain: str
    moments: dict[str, np.ndarray] = field(default_factory=dict)
    labels: dict[str, list[float]] = field(default_factory=dict)
    outcomes: dict[str, list[int]] = field(default_factory=dict)
    scaled: dict[str, np.ndarray] = field(default_factory=dict)
    skipped: Skipped = field(default_factory=Skipped)
    lists: ListCounter | None = None
    newest: float = -math.inf

    def add(self, other: "ShareNumbers") -> None:
        """Adds the domain's next share."""
        self.add_moments(other.moments)
        self.newest = max(self.newest, other.newest)
        for task, (labels, total) in other.labels.items():
            self.labels[task][0] += labels
            self.labels[task][1] += total
        for task, (happened, known) in other.outcomes.items():
            self.outcomes[task][0] += happened
            self.outcomes[task][1] += known
        for task, moments in other.scaled.items():
            self.scaled[task] = add_moments(self.scaled.get(task, np.zeros(3)), moments)
        self.skipped.add_those_of(other.skipped)
        if self.lists is not None and other.lists is not None:
            self.lists.extend(other.lists)

    def add_moments(self, moments: Mapping[str, np.ndarray]) -> None:
        """Adds those of further rows."""
        for column, more in moments.items():
            self.moments[column] = add_moments(self.moments.get(column, np.zeros(3)), more)

    def add_time(self, experiment: Experiment, table: pa.Table) -> None:
        """Looks at the times of a row group."""
        if (column := experiment.domains[self.domain].time) is not None and column in table.column_names:
            self.newest = max(self.newest, np.fmax.reduce(seconds(table[column]), initial=-np.inf))

    def add_labels(self, experiment: Experiment, table: pa.Table) -> None:
        """Adds the labels of a row group."""
        domain = experiment.domains[self.domain]
        for name, task in domain.tasks.items():
            values = read_labels(domain, name, table)
            if (weights := read_weights(domain, name, table)) is not None:
                values = np.where(weights > 0, values, np.nan)  # nobody learns from the others
            self.labels[name][0] += int((~np.isnan(values)).sum())
            if task.parent is not None:
                before = read_labels(domain, task.parent, table) > 0
                self.outcomes[name][0] += int(before.sum())
                self.outcomes[name][1] += int((before & ~np.isnan(values)).sum())
            total = float(np.nansum(values))
            self.labels[name][1] += int(total) if total.is_integer() else total
            if (scaled := task.scaled(values[~np.isnan(values)])) is not None:
                self.scaled[name] = add_moments(self.scaled.get(name, np.zeros(3)), moments_of(scaled))


class Tally:
    """What some shares say.

    Attributes:
        counts: how often they have each id; whole numbers, which add up to the same in any order.
        shares: number of a share -> what is added up of it.
    """

    def __init__(self, experiment: Experiment, labels_alone: bool = False):
        """Of no share yet. Where ids and numbers are known from elsewhere, of ``labels_alone``: labels, weights and lists."""
        self.counts, self.shares = Counts(), dict[int, ShareNumbers]()
        self._experiment, self._labels_alone = experiment, labels_alone
        self._features = {name: event_features(experiment, name) for name in experiment.domains}

    def add(self, share: Share, group: Group, table: pa.Table, bad: list[BadValue]) -> None:
        """Adds a row group of a share, as `read_shares` gives it.

        Raises:
            UserError: a bad value.
        """
        experiment, name = self._experiment, share.domain
        if share.number not in self.shares:
            self.shares[share.number] = nothing(experiment, name)
        numbers = self.shares[share.number]
        if numbers.lists is not None:
            numbers.lists.add(table[numbers.lists.column], group.path, group.number)
        if bad:
            numbers.skipped.add(name, group.path, group.number, bad)
            table = table.filter(pa.array(~rows_of(bad, table.num_rows)))
        numbers.add_labels(experiment, table)
        numbers.add_time(experiment, table)
        if not self._labels_alone:
            self.add_ids(name, table, f"{group.path}: row group {group.number}")
            numbers.add_moments(self.counts.take_moments())

    def add_ids(self, name: str, table: pa.Table, where: str) -> None:
        """Adds ids and numbers of rows of a domain; ``where`` they are, for messages.

        Raises:
            UserError: a bad value.
        """
        experiment, domain, counts = self._experiment, self._experiment.domains[name], self.counts
        for entity_name, entity in experiment.looked_up().items():
            if not domain.lacks(entity_name):
                counts.ids(id_key(entity_name), entity).add(*id_keys(table[entity.id]))
        objective = experiment.model.next_item
        if objective is not None and objective.positions == "all" and domain.users:
            # Past items are then learned from as the row's own is.
            history = experiment.entities.user.history
            assert history is not None  # `load` has seen to it
            keys, _ = ragged_keys(table[history.column], history.max_length)
            counts.ids(id_key("item"), experiment.entities.item).add(keys, np.ones(len(keys), bool))
        for feature_name, feature in self._features[name].items():
            if all(need.name in table.column_names for need in feature.needs(feature_name, "")):
                feature.count(feature_name, table, where, counts, None)


@dataclass
class EventCounts:
    """What all training events say, before catalogs and settings such as `min_count` make statistics of it.

    Attributes:
        ids: embedding table -> how often its ids are in the events.
        dense: dense column -> how many values there are, their mean and standard deviation.
        domains: domain -> what is added up of its rows.
    """

    ids: dict[str, KeyCounts]
    dense: dict[str, tuple[int, float, float]]
    domains: dict[str, ShareNumbers]


def read_shares(
    experiment: Experiment, shares: Iterable[Share], labels_alone: bool = False
) -> Iterator[tuple[Share, Group, pa.Table, list[BadValue]]]:
    """Share, row group, its rows and what is bad in them; without vectors, unless bad ones are to be counted.

    Args:
        experiment: the experiment.
        shares: to be read.
        labels_alone: whether only the columns of labels, weights, lists and times are read.

    Raises:
        UserError: a bad value, where they are not to be left out.
    """
    policy = experiment.bad_data
    for share in shares:
        every = label_columns(experiment, share.domain) if labels_alone else needed_columns(experiment, share.domain)
        every += time_needs(experiment, share.domain) if labels_alone else []
        needs = [need for need in every if policy.skips or need.holds != VECTOR]
        for group in share.groups:
            table, bad = read_events(group.path, group.number, needs, policy)
            if not policy.skips:
                refuse_beside(table, needs, f"{group.path}: row group {group.number}")
            yield share, group, table, bad


def nothing(experiment: Experiment, name: str) -> ShareNumbers:
    """Of no row of a domain yet."""
    domain = experiment.domains[name]
    column = domain.list_column if domain.whole_lists else None
    return ShareNumbers(
        name,
        labels={task: [0, 0] for task in domain.tasks},
        outcomes={task: [0, 0] for task, of in domain.tasks.items() if of.parent},
        lists=None if column is None else ListCounter(name, column),
    )


def event_features(experiment: Experiment, domain: str) -> dict[str, Feature]:
    """The features that a domain's events have."""
    features: dict[str, Feature] = {}
    for name, entity in experiment.entities.present().items():
        if experiment.domains[domain].lacks(name):
            continue
        features |= {n: f for n, f in entity.features.items() if not entity.comes_from_catalog(f)}
    return features | experiment.context | experiment.domains[domain].features


def event_tables(experiment: Experiment, domains: Iterable[str]) -> dict[str, Encoded]:
    """Embedding tables whose ids are in the events of some domains, domain after domain."""
    found: dict[str, Encoded] = {}
    ids = {id_key(name): entity for name, entity in experiment.looked_up().items()}
    for domain in domains:
        found |= {key: of for key, of in ids.items() if not experiment.domains[domain].lacks(key.removeprefix("id_"))}
        for name, feature in event_features(experiment, domain).items():
            found |= feature.inputs(name).encodings
    return found
