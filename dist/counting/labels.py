"""What the counted labels say of the tasks."""

from ...data.config.experiment import Experiment
from ...data.counting.statistics import Statistics
from ...data.errors import UserError
from ..logs.records import warning


def check_labels(experiment: Experiment, statistics: Statistics, before: Experiment | None = None) -> None:
    """Tells of domains that have no label of a task, and refuses a task that has none in any domain.

    Args:
        experiment: the experiment.
        statistics: of its training events.
        before: of the run that a fine-tuning begins with; what it has learnt of a task needs no labels here.

    Raises:
        UserError: nobody can learn a task, as its labels in training are all null, or in bad rows, or null wherever the task that
            it is given has happened.
    """
    known = {task for domain in before.domains.values() for task in domain.tasks} if before is not None else set()
    labelled = {task for tasks in statistics.labels.values() for task, (labels, _) in tasks.items() if labels}
    for name, tasks in statistics.labels.items():
        for task, (labels, total) in tasks.items():
            label = experiment.domains[name].tasks[task].label
            column = label.column
            weighed = experiment.domains[name].weight_of(task) is not None
            if not labels and task not in labelled and (task not in known or not labelled):
                raise UserError(
                    f"domains.{name}.tasks.{task}",
                    f"has no label to learn from: column '{column}' holds none in the training events of any domain"
                    + (", or none of a weight above 0" if weighed else ""),
                    f"Write {experiment.domains[name].tasks[task].takes} where the outcome is known, or remove the task.",
                )
            if not statistics.rows[name]:  # a domain from which nothing has come
                continue
            clicked, outcomes = statistics.outcomes.get(name, {}).get(task, (0, 0))
            if outcomes < clicked:
                _tell_unknown_outcomes(experiment, name, task, clicked, outcomes)
            if not labels:
                warning(f"domains.{name}.tasks.{task}: column '{column}' holds no label in the training events")
            elif label.is_condition and total in (0, labels):
                often = "every label of the training events is" if total else "no label of the training events is"
                warning(f"domains.{name}.tasks.{task}.label: {often} 1; look at the condition on '{column}'")


def _tell_unknown_outcomes(experiment: Experiment, domain: str, task: str, before: int, known: int) -> None:
    """Of a task that is given another: rows without the other's event are 0, so those with it must not be without an outcome."""
    where, of = f"domains.{domain}.tasks.{task}", experiment.domains[domain].tasks[task]
    remedy = "Leave out the days whose outcomes are not known yet, with all of their rows, or write 0 where it did not happen."
    column = f"column '{of.label.column}'"
    if not known:
        raise UserError(where, f"{column} has no label in any of the {before:,} rows with {of.parent}", remedy)
    warning(
        f"{where}: {column} has no label in {before - known:,} of {before:,} rows with {of.parent}, which count nowhere while rows "
        f"without {of.parent} count as 0: scores come out too low, by {1 - known / before:.1%} if these are like the others. {remedy}"
    )
