"""The columns of training events that hold groups of candidates, where `model.next_item.preference` learns from them."""

from ..arrow.column_need import ColumnNeed
from ..arrow.column_types import LIST_ID, LIST_NUMBER
from ..config.experiment import Experiment

CANDIDATES, REFERENCE, REWARD = "candidates", "reference", "reward"
_FIELD = "model.next_item.preference"
_REMEDY = "Give the files that `foundrank align` writes; or learn from the events alone, with --set model.next_item.preference=null."


def group_needs(experiment: Experiment, domain: str) -> list[ColumnNeed]:
    """What the training events of a domain must have beside `needed_columns`."""
    objective = experiment.model.next_item
    if objective is None or objective.preference is None or not experiment.domains[domain].users:
        return []
    numbers = [ColumnNeed(name, LIST_NUMBER, _FIELD, remedy=_REMEDY) for name in (REFERENCE, REWARD)]
    return [ColumnNeed(CANDIDATES, LIST_ID, _FIELD, remedy=_REMEDY), *numbers]
