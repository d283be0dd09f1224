"""Which columns of events and catalogs an experiment needs, and what each must hold."""

from collections.abc import Sequence

import pyarrow as pa

from ..arrow.column_need import BadValues, ColumnNeed
from ..arrow.column_types import (
    LIST_ID,
    LIST_NAME,
    LIST_TIME,
    SCALAR_ID,
    TIME,
    holds,
    id_family,
    in_words,
)
from ..arrow.times import bad_times
from ..config.experiment import Experiment
from ..config.sections.entities import EntityConfig, HistoryConfig
from ..errors import UserError, nearest
from .labels import weight_needs
from .layout import id_key

HISTORY_FIELD = "entities.user.history"
_NO_TIME = BadValues(bad_times, "no time", "Write null where a time is unknown.")

IdTypes = dict[str, tuple[str, str]]
"""Embedding table -> ``string`` or ``integer``, what its ids are, and the first file, or run, that says so."""


def needed_columns(experiment: Experiment, name: str, with_labels: bool = True) -> list[ColumnNeed]:
    """What the events of domain ``name`` must have.

    A recommendation domain needs no query column, one without users no user column and no history; ``with_labels=False`` leaves
    out what scores do without: labels, features with ``bias`` and what only metrics need.
    """
    domain = experiment.domains[name]
    needs: list[ColumnNeed] = []
    for entity_name, entity in experiment.entities.present().items():
        if domain.lacks(entity_name):
            continue
        field = f"entities.{entity_name}.id"
        needs.append(ColumnNeed(entity.id, SCALAR_ID, field, table=id_key(entity_name)))
        for content_name, content in entity.every_content().items():
            if not entity.content_in_catalog(content):
                needs += content.needs(f"entities.{entity_name}.{entity.place_of(content_name)}")
        for feature_name, feature in entity.features.items():
            if not entity.comes_from_catalog(feature):
                needs += feature.needs(feature_name, f"entities.{entity_name}.features.{feature_name}")
    history = experiment.entities.user.history
    if history is not None and domain.users:
        needs += history_needs(experiment, history)
    if with_labels or time_of_events(experiment, name) == domain.time:
        needs += time_needs(experiment, name)
    if with_labels and experiment.model.rates and (time := time_of_rates(experiment, name)) not in (None, domain.time):
        needs.append(ColumnNeed(str(time), TIME, f"{HISTORY_FIELD}.time", bad=_NO_TIME))
    of_events = [(f"context.{n}", n, f) for n, f in experiment.context.items()]
    of_events += [(f"domains.{name}.features.{n}", n, f) for n, f in domain.features.items()]
    needs += [need for field, n, f in of_events if with_labels or not f.bias for need in f.needs(n, field)]
    if with_labels:
        needs += label_columns(experiment, name)
    return needs


def time_needs(experiment: Experiment, name: str) -> list[ColumnNeed]:
    """The column with the times of a domain's events, where it names one."""
    time = experiment.domains[name].time
    return [] if time is None else [ColumnNeed(time, TIME, f"domains.{name}.time", bad=_NO_TIME)]


def time_of_events(experiment: Experiment, domain: str) -> str | None:
    """The column with the times of a domain's events that those of past items are compared with; None: they are with the newest."""
    history = experiment.entities.user.history
    if history is None or not experiment.domains[domain].users or not (experiment.model.past_times and history.times):
        return None
    return history.time or experiment.domains[domain].time


def time_of_rates(experiment: Experiment, domain: str) -> str | None:
    """The column with the times of a domain's events by which rates tell before from after; None: there is none."""
    config, history = experiment.domains[domain], experiment.entities.user.history
    return config.time or (history.time if history is not None and config.users else None)


def history_needs(experiment: Experiment, history: HistoryConfig) -> list[ColumnNeed]:
    """The columns of the past: its items, and their domains and times where the model looks at them."""
    needs = [ColumnNeed(history.column, LIST_ID, HISTORY_FIELD, table=id_key("item"))]
    if experiment.model.past and history.domains is not None:
        needs.append(ColumnNeed(history.domains, LIST_NAME, f"{HISTORY_FIELD}.domains", beside=history.column))
    if experiment.model.past_times and history.times is not None:
        needs.append(ColumnNeed(history.times, LIST_TIME, f"{HISTORY_FIELD}.times", beside=history.column))
        if history.time is not None:
            needs.append(ColumnNeed(history.time, TIME, f"{HISTORY_FIELD}.time"))
    return needs


def label_columns(experiment: Experiment, name: str) -> list[ColumnNeed]:
    """Those of them that only labels, their weights and metrics need."""
    needs, domain = list[ColumnNeed](), experiment.domains[name]
    for task_name, task in domain.tasks.items():
        needs += task.columns(f"domains.{name}.tasks.{task_name}")
    needs += weight_needs(name, domain)
    if domain.list_column:
        needs.append(ColumnNeed(domain.list_column, SCALAR_ID, f"domains.{name}.list_column"))
    return needs


def catalog_needs(name: str, entity: EntityConfig) -> list[ColumnNeed]:
    """What the catalog of entity ``name`` must have: its key, the features that come from it, and what its contents are made of."""
    assert entity.catalog is not None
    needs = [ColumnNeed(entity.catalog.key, SCALAR_ID, f"entities.{name}.catalog.key", table=id_key(name))]
    for feature_name, feature in entity.features.items():
        if entity.comes_from_catalog(feature):
            needs += feature.needs(feature_name, f"entities.{name}.features.{feature_name}")
    for content_name, content in entity.every_content().items():
        if entity.content_in_catalog(content):
            needs += content.needs(f"entities.{name}.{entity.place_of(content_name)}")
    return needs


class SchemaCheck:
    """Checks the schemas of some files one after another: what is needed is there once, in types that serve and agree."""

    def __init__(self, needs: Sequence[ColumnNeed], types: IdTypes):
        """Args: what is needed; the types of ids known so far, to which is added what the files say."""
        self._needs, self._types = needs, types

    def check(self, file: str, schema: pa.Schema) -> None:
        """Raises a UserError that names the file, the column and the field of the experiment that asks for it."""
        names = schema.names
        for need in self._needs:
            times = names.count(need.name)
            if times == 1:
                self._check_type(file, schema.field(need.name).type, need)
            elif times or not need.optional:
                raise UserError(
                    f"{file}: column '{need.name}'",
                    f"is there {times} times" if times else f"is missing, and {need.field} asks for it",
                    "Keep one of them, or rename the others." if times else need.remedy or nearest(need.name, names),
                )

    def _check_type(self, file: str, kind: pa.DataType, need: ColumnNeed) -> None:
        where = f"{file}: column '{need.name}'"
        if not holds(kind, need.holds, need.size):
            what = f"is {kind}; {need.field} takes {in_words(need.holds, need.size)}"
            raise UserError(where, what, "Cast the column when writing the file, or point the field at another one.")
        if need.holds not in (SCALAR_ID, LIST_ID) or (family := id_family(kind)) is None:
            return
        # A list column's ids have no table: they agree with themselves.
        other, other_file = self._types.setdefault(need.table or need.name, (family, file))
        if other != family:
            raise UserError(
                where,
                f"holds {family} ids, but {other_file} holds {other} ids for the same column or entity",
                f"Write one type for {need.field}: the integer 7 and the string '7' are different ids.",
            )
