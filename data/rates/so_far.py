"""What rates are made of, kept so that the next increment of the training goes on with it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class IdSums(NamedTuple):
    """What the labels of training add up to, by id.

    Attributes:
        ids: ``[N]`` int64, increasing; of a table by domain ``row * domains + domain``.
        sums: ``[N, 2 T]`` float64, of each of T tasks the weights of the labels, and the weighted labels.
        priors: ``[P, T]`` float64, for how many labels the prior stands, P being 1 or, of a table by domain, the domains; NaN: nobody knows.
    """

    ids: np.ndarray
    sums: np.ndarray
    priors: np.ndarray

    def of_others(self, domains: Sequence[int], to: int, tasks: Sequence[int]) -> "IdSums":
        """For other domains and tasks than these.

        Args:
            domains: of each of P its new number; -1 where it is no more.
            to: how many there are then.
            tasks: of each new task its number here; -1 where it is new.
        """
        row, domain = np.divmod(self.ids, len(domains))
        number, known = np.array(domains)[domain], np.array(tasks) >= 0
        kept = np.flatnonzero(number >= 0)
        ids = row[kept] * to + number[kept]
        kept, ids = kept[np.argsort(ids)], np.sort(ids)
        sums, priors = np.zeros((len(ids), 2 * len(tasks))), np.full((to, len(tasks)), np.nan)
        mine = np.array(tasks)[known]
        for part in (0, 1):
            sums[:, part::2][:, known] = self.sums[kept, part::2][:, mine]
        for then, now in enumerate(domains):
            if now >= 0:
                priors[now, known] = self.priors[then, mine]
        return IdSums(ids, sums, priors)

    def without(self, rows: np.ndarray) -> "IdSums":
        """Nothing of what these rows have."""
        kept = ~np.isin(self.ids // len(self.priors), rows)
        return self if kept.all() else IdSums(self.ids[kept], self.sums[kept], self.priors)


@dataclass
class RatesSoFar:
    """What an increment goes on with.

    Attributes:
        domains: names of the D domains, in the order of their numbers.
        tasks: names of the T tasks, in order.
        labels: ``[D + 1, T, 3]`` float64, as of `Labels.of`, of each domain and last of all: by which rates are made, and were from when
            there first was a label.
        tables: name of a table of rates -> its sums, of all training rows so far.
    """

    domains: tuple[str, ...]
    tasks: tuple[str, ...]
    labels: np.ndarray
    tables: dict[str, IdSums]

    def following(
        self,
        domains: Sequence[str],
        tasks: Sequence[str],
        tables: Iterable[tuple[str, str, bool]],
        given_up: Mapping[str, np.ndarray],
    ) -> "RatesSoFar":
        """As an increment finds it.

        Args:
            domains: its own, which may be others, or in another order.
            tasks: likewise.
            tables: its own, as of `rate_tables`.
            given_up: key -> rows that ids have given up since, of which nothing is left.
        """
        at_domain = [domains.index(name) if name in domains else -1 for name in self.domains]
        at_task = [self.tasks.index(name) if name in self.tasks else -1 for name in tasks]
        labels = np.zeros((len(domains) + 1, len(tasks), 3))
        known = np.array(at_task) >= 0
        for then, now in enumerate((*at_domain, len(domains))):
            if now >= 0:
                labels[now, known] = self.labels[then][np.array(at_task)[known]]
        found = {}
        for name, key, by_domain in tables:
            table = self.tables.get(name)
            if table is None and by_domain and len(self.domains) == 1:  # of whose only domain the other table is
                table = self.tables.get(key)
            if table is not None:
                table = table.without(given_up.get(key, np.zeros(0, np.int64)))
                numbers, to = (at_domain, len(domains)) if by_domain else ([0], 1)
                found[name] = table.of_others(numbers, to, at_task)
        return RatesSoFar(tuple(domains), tuple(tasks), labels, found)
