"""Which columns of the events an experiment needs, and what type each must have."""

from dataclasses import dataclass

import pyarrow as pa

from .experiment import DomainConfig, EntityConfig, Experiment, FeatureConfig, HistoryConfig

SCALAR_ID, LIST_ID, NUMBER, VECTOR, LABEL = "id", "list of ids", "number", "vector", "label"
PROBABILITY = "probability"
TIME, LIST_TIME, LIST_NAME = "time", "list of times", "list of names"
HISTORY_FIELD = "entities.user.history"


@dataclass(frozen=True)
class ColumnNeed:
    """One column an experiment reads.

    Attributes:
        name: of the column.
        holds: what it must hold.
        field: the field of the experiment that asks for it.
        size: of a vector.
        above: a number must be larger than this; None where any finite one will do.
    """

    name: str
    holds: str
    field: str
    size: int = 0
    above: float | None = None


def comes_from_catalog(entity: EntityConfig, feature: FeatureConfig) -> bool:
    """Whether an entity's feature is read from its catalog rather than from the events."""
    return feature.source == "catalog" or (feature.source is None and entity.catalog is not None)


def needed_columns(experiment: Experiment, name: str, with_labels: bool = True) -> list[ColumnNeed]:
    """What the events of domain ``name`` must have.

    A recommendation domain needs no query column; ``with_labels=False`` leaves out labels and what only metrics need.
    """
    domain = experiment.domains[name]
    needs: list[ColumnNeed] = []
    for entity_name, entity in experiment.entities.present().items():
        if entity_name == "query" and domain.kind == "recommendation":
            continue
        needs.append(ColumnNeed(entity.id, SCALAR_ID, f"entities.{entity_name}.id"))
        if entity.text_vector is not None:
            field = f"entities.{entity_name}.text_vector"
            needs.append(ColumnNeed(entity.text_vector.column, VECTOR, field, entity.text_vector.size))
        for feature_name, feature in entity.features.items():
            if not comes_from_catalog(entity, feature):
                needs.append(feature_need(feature_name, feature, f"entities.{entity_name}.features.{feature_name}"))
    history = experiment.entities.user.history
    if history is not None:
        needs += history_needs(experiment, history)
    needs += [feature_need(n, f, f"context.{n}") for n, f in experiment.context.items()]
    needs += [feature_need(n, f, f"domains.{name}.features.{n}") for n, f in domain.features.items()]
    if with_labels:
        needs += _metric_columns(name, domain)
    return needs


def history_needs(experiment: Experiment, history: HistoryConfig) -> list[ColumnNeed]:
    """The columns of the past: its items, and their domains and times where the model looks at them."""
    needs = [ColumnNeed(history.column, LIST_ID, HISTORY_FIELD)]
    if experiment.model.past and history.domains is not None:
        needs.append(ColumnNeed(history.domains, LIST_NAME, f"{HISTORY_FIELD}.domains"))
    if experiment.model.history.time_bias and history.times is not None:
        needs.append(ColumnNeed(history.times, LIST_TIME, f"{HISTORY_FIELD}.times"))
        if history.time is not None:
            needs.append(ColumnNeed(history.time, TIME, f"{HISTORY_FIELD}.time"))
    return needs


def _metric_columns(name: str, domain: DomainConfig) -> list[ColumnNeed]:
    needs = []
    for task_name, task in domain.tasks.items():
        needs.append(ColumnNeed(task.label, LABEL, f"domains.{name}.tasks.{task_name}.label"))
        if task.probability:
            needs.append(ColumnNeed(task.probability, PROBABILITY, f"domains.{name}.tasks.{task_name}.probability"))
    if domain.list_column:
        needs.append(ColumnNeed(domain.list_column, SCALAR_ID, f"domains.{name}.list_column"))
    return needs


def feature_need(name: str, feature: FeatureConfig, field: str) -> ColumnNeed:
    """What the column of a feature must hold; ``field`` is where the experiment describes it."""
    holds = {"categorical": SCALAR_ID, "list": LIST_ID, "dense": NUMBER, "vector": VECTOR}[feature.kind]
    return ColumnNeed(feature.column_name(name), holds, field, feature.size or 0, feature.above)


def holds(kind: pa.DataType, wanted: str, size: int = 0) -> bool:
    """Whether an Arrow type can serve as ``wanted``. A column of only nulls can serve as anything."""
    if pa.types.is_null(kind):
        return True
    if wanted == SCALAR_ID:
        return is_id(kind)
    if wanted == LIST_ID:
        return is_list(kind) and (is_id(kind.value_type) or pa.types.is_null(kind.value_type))
    if wanted == LIST_TIME:
        return is_list(kind) and holds(kind.value_type, TIME)
    if wanted == LIST_NAME:
        return is_list(kind) and (is_string(kind.value_type) or pa.types.is_null(kind.value_type))
    if wanted == TIME and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return True
    if wanted == VECTOR:
        if pa.types.is_fixed_size_list(kind):
            return pa.types.is_floating(kind.value_type) and kind.list_size == size
        return is_list(kind) and pa.types.is_floating(kind.value_type)
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return number or (wanted in (NUMBER, PROBABILITY) and pa.types.is_decimal(kind))


def is_id(kind: pa.DataType) -> bool:
    """Integers and strings, plain or dictionary-encoded."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_integer(kind) or is_string(kind)


def is_string(kind: pa.DataType) -> bool:
    """Any of Arrow's string types, plain or dictionary-encoded."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_list(kind: pa.DataType) -> bool:
    """Variable-length lists of either offset width, and fixed-size ones."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
