"""Which rates the rows of an experiment have, and what their columns are called."""

from collections.abc import Iterator

from ..config.experiment import Experiment
from ..schema.column_needs import time_of_rates
from ..schema.layout import id_key

RATE, COUNT = "rate", "count"


def rate_keys(experiment: Experiment) -> dict[str, str]:
    """Key of a batch that holds an id of an entity, or a category of items -> that entity.

    Of a category of users or queries an embedding knows as much: it is of few values, and each has many labels.
    """
    found = {id_key(entity): entity for entity in experiment.entities.present()}
    for name, feature in experiment.entities.item.features.items():
        found |= dict.fromkeys(feature.inputs(name).singles, "item")
    return found


def rate_tasks(experiment: Experiment) -> tuple[str, ...]:
    """The tasks of all domains, each once."""
    return tuple(dict.fromkeys(task for domain in experiment.domains.values() for task in domain.tasks))


def rate_tables(experiment: Experiment) -> Iterator[tuple[str, str, bool]]:
    """What rates are kept of: a name, the key, and whether it is so in each domain apart; of one domain, that would be the same."""
    for key in rate_keys(experiment):
        yield key, key, False
        if len(experiment.domains) > 1:
            yield f"{key}.here", key, True


def in_folds(experiment: Experiment) -> bool:
    """Whether rows of training know of other folds, since some domain's events have no time, and not of what was before them."""
    return bool(_without_time(experiment))


def rates_told(experiment: Experiment) -> str:
    """What rates there are, and of which labels a row of training knows, in a sentence."""
    kept = ", ".join(rate_keys(experiment))
    if not (without := _without_time(experiment)):
        return f"rates of {kept}: a row of training knows of earlier ones"
    named = f"domains.{without[0]}.time would have it know of earlier ones alone"
    return f"rates of {kept}: a row of training knows of other folds; {named}"


def _without_time(experiment: Experiment) -> list[str]:
    return [name for name in experiment.domains if time_of_rates(experiment, name) is None]


def columns_of(table: str, tasks: tuple[str, ...]) -> list[str]:
    """Of each task the rate and the count."""
    return [f"{table}.{task}.{what}" for task in tasks for what in (RATE, COUNT)]


def rate_columns(experiment: Experiment) -> tuple[str, ...]:
    """Names of the columns, in order; none where the model has no rates."""
    if not experiment.model.rates:
        return ()
    tasks = rate_tasks(experiment)
    return tuple(column for name, _, _ in rate_tables(experiment) for column in columns_of(name, tasks))
