"""What a trial is judged by: numbers of its validations, never of the test split."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.config.experiment import Experiment
from ...data.errors import UserError, nearest
from ..evaluate.measures import mean_validation
from ..evaluate.slices import slices_by_count
from ..retrieval.protocol import NEXT_ITEM

_REMEDY = "Name a slice, a task, a domain or next_item, or several with / between, as in liked/cold_items."


@dataclass(frozen=True)
class Objective:
    """The mean over domains and tasks of what checkpoints are chosen by, of one slice of the validation rows.

    Attributes:
        slice: of the rows.
        domains: in which; all where it is empty.
        tasks: of which; all where it is empty.
        next_item: whether it is NDCG@10 of the next item, in place of tasks.
    """

    slice: str
    domains: tuple[str, ...]
    tasks: tuple[str, ...]
    next_item: bool

    def value(self, experiment: Experiment, document: Mapping[str, Any], step: int) -> float | None:
        """The number of one validation; None where no row has one.

        Args:
            experiment: the experiment.
            document: ``validation.json``.
            step: after which.
        """
        name = "next_item" if self.next_item else "rows"
        rows = [row for row in document.get(name, ()) if row["step"] == step and row["slice"] == self.slice]
        rows = [row for row in rows if not self.domains or row["domain"] in self.domains]
        if self.next_item:
            found = [(row["ndcg@10"], row["rows"]) for row in rows if row["rows"] and row["ndcg@10"] is not None]
            return mean_validation(found)
        rows = [row for row in rows if not self.tasks or row["task"] in self.tasks]
        return mean_validation(experiment.domains[row["domain"]].tasks[row["task"]].validation(row) for row in rows)


def read_objective(text: str, experiment: Experiment) -> Objective:
    """The objective that some names stand for, ``/`` between them; all of validation for none.

    Raises:
        UserError: the experiment has no such slice, task or domain, or two slices are named.
    """
    known_slices = slices_by_count(dict.fromkeys(experiment.entities.present(), np.zeros(0)))
    known_tasks = {task for domain in experiment.domains.values() for task in domain.tasks}
    slices, domains, tasks = list[str](), list[str](), list[str]()
    next_item = not known_tasks
    for name in (part.strip() for part in text.split("/") if part.strip()):
        if name == NEXT_ITEM and experiment.model.next_item is not None:
            next_item = True
        elif name in known_tasks:
            tasks.append(name)
        elif name in experiment.domains:
            domains.append(name)
        elif name in known_slices:
            slices.append(name)
        else:
            known = (*known_slices, *known_tasks, *experiment.domains)
            raise UserError("--objective", f"'{name}' is no slice, task or domain", f"{nearest(name, known)} {_REMEDY}")
    if len(slices) > 1:
        raise UserError("--objective", f"names {len(slices)} slices: {', '.join(slices)}", "Name one.")
    if next_item and tasks:
        raise UserError("--objective", f"names the next item and task '{tasks[0]}'", "Name one of the two.")
    return Objective(slices[0] if slices else "all", tuple(domains), tuple(tasks), next_item)


def check_validated(objective: Objective, asked: str, experiment: Experiment) -> None:
    """Makes sure that some domain which trials are judged by has a validation split.

    Raises:
        UserError: none has.
    """
    tasks = set(objective.tasks)
    for name, domain in experiment.domains.items():
        is_judged = not objective.domains or name in objective.domains
        if domain.events.validation and is_judged and (not tasks or tasks & set(domain.tasks)):
            return
    raise UserError("--objective", f"'{asked}' is of no domain with events.validation", "Name another, or give it one.")


def best_so_far(experiment: Experiment, document: Mapping[str, Any]) -> list[tuple[float, int]]:
    """Of each validation, the epochs over, and the step of the best checkpoint until then, which is chosen by all of validation.

    Args:
        experiment: the experiment.
        document: ``validation.json``.
    """
    chosen_by = Objective("all", (), (), next_item=not any(domain.tasks for domain in experiment.domains.values()))
    found, best, highest = [], None, float("-inf")
    for step, epochs in steps(document).items():
        score = chosen_by.value(experiment, document, step)
        if score is not None and score > highest:
            best, highest = step, score
        if best is not None:
            found.append((epochs, best))
    return found


def steps(document: Mapping[str, Any]) -> dict[int, float]:
    """Step -> epochs over, of each validation in ``validation.json``."""
    rows = [*document.get("rows", ()), *document.get("next_item", ())]
    return {row["step"]: row["epoch"] for row in sorted(rows, key=lambda row: row["step"])}
