"""What a tuning does before its first trial: it finds mistakes, notes what is tried, and counts the events once for all trials."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.config.experiment import Experiment
from ...data.config.kinds import Kinds
from ...data.config.load import load_written, plain
from ...data.config.written import Written
from ...data.counting.by_size import by_size
from ...data.errors import UserError
from ...data.events.check_events import check_events
from ...data.storage.delta_tables import table_of, with_version
from ...data.storage.new_folder import check_can_be_made
from ..counting.counted import counted
from ..fine_tuning.pretrained import pretrained
from ..run.new_run import differences
from ..run.run_documents import TuneInfo
from ..run.run_folder import read_json, write_json
from ..train.delta_versions import without_version
from .objective import Objective, check_validated, read_objective
from .space import Space, assignment, fitted, read_space, usual_space
from .turns import alone

JOB, COUNTS = "tune.json", "counts"
_APART = 0.6  # of an epoch, between validations inside epochs: none is just before or just after an epoch's own


@dataclass(frozen=True)
class Tuning:
    """What is tuned: checked before there is work.

    Attributes:
        file: the experiment's file, its folder or its URI.
        overrides: of ``--set``.
        kinds: what the experiment may choose from.
        experiment: as it is loaded, with the test split; no trial has that.
        written: what was written of it where.
        space: what is tried.
        objective: what trials are judged by.
        asked: the objective in the user's words.
        out: the folder.
        rows: of training, all domains together.
        ranks: processes of each training.
    """

    file: str
    overrides: tuple[str, ...]
    kinds: Kinds
    experiment: Experiment
    written: Written
    space: Space
    objective: Objective
    asked: str
    out: Path
    rows: int
    ranks: int

    def experiment_of(self, changes: dict[str, Any]) -> tuple[Experiment, Written]:
        """The experiment with some changes, and with what `settled` adds.

        Raises:
            UserError: they contradict each other.
        """
        every = [assignment(key, value) for key, value in (changes | self.settled(changes)).items()]
        experiment, written = load_written(self.file, [*self.overrides, *every], kinds=self.kinds)
        return by_size(experiment, self.rows), written

    def settled(self, changes: dict[str, Any]) -> dict[str, Any]:
        """What a trial has besides its changes: validations within an epoch, unless the experiment says when, or counts them."""
        training = self.experiment.training
        if training.validate_every is not None or training.patience is not None:
            return {}
        batch = changes.get("training.batch_size", training.batch_size) * self.ranks
        return {"training.validate_every": max(1, round(_APART * self.rows / batch))}


def prepare_tuning(
    file: str,
    overrides: Sequence[str],
    out: Path,
    space: Path | None,
    objective: str,
    kinds: Kinds,
    seed: int,
    ranks: int = 1,
) -> Tuning:
    """Reads and checks all that there is to know before the first trial, and counts the training events once for all of them.

    Args:
        file: the experiment's file, its folder or its URI.
        overrides: of ``--set``.
        out: the folder of the trials.
        space: file of what is tried; None for the usual.
        objective: as of `read_objective`.
        kinds: what the experiment may choose from.
        seed: of the sampler.
        ranks: processes of each training.

    Raises:
        UserError: something is wrong with the experiment, the space, the objective or the data; no domain has a validation split;
            or the folder holds another tuning.
    """
    overrides = tuple(overrides)
    experiment, written = load_written(file, overrides, kinds=kinds)
    if not any(domain.events.validation for domain in experiment.domains.values()):
        raise UserError(
            file, "no domain has events.validation, by which trials are judged", "Give one of them a split."
        )
    if not experiment.training.keep_best:
        raise UserError(
            f"{file}: training.keep_best", "is false, and trials are judged by their best checkpoint", "Leave it out."
        )
    if experiment.seeds > 1:
        raise UserError(f"{file}: seeds", f"is {experiment.seeds}, and a trial trains one model", "Add --set seeds=1.")
    for field, table in without_version(experiment).items():
        what = f"names no version of '{table_of(table)[0]}', and all trials are to read the same rows"
        raise UserError(f"{file}: {field}", what, f"Write {with_version(table)}.")
    judged = read_objective(objective, experiment)
    check_validated(judged, objective, experiment)
    asked = read_space(space) if space is not None else None
    check_can_be_made(out, out, "Choose another folder.")
    events = check_events(without_test(experiment))
    train = {name: of_domain["train"] for name, of_domain in events.items()}
    rows = sum(files.rows for files in train.values())
    experiment = by_size(experiment, rows)
    chosen = fitted(asked or usual_space(rows), file, overrides, experiment, space)
    job = Tuning(file, overrides, kinds, experiment, written, chosen, judged, objective, out, rows, ranks)
    keep_tuning(job, seed)
    before = pretrained(experiment) if experiment.init_from is not None else None
    with alone(out, "counts"):  # who comes second finds what the first has counted
        counted(without_test(experiment), train, before, out / COUNTS)
    return job


def without_test(experiment: Experiment) -> Experiment:
    """The experiment as trials have it: whatever they do, there is no test split to read."""
    raw = plain(experiment)
    for domain in raw["domains"].values():
        domain["events"].pop("test", None)
    return type(experiment).model_validate(raw)


def keep_tuning(job: Tuning, seed: int) -> None:
    """Notes what is tuned; or makes sure that it is what was tuned in the folder before.

    Raises:
        UserError: it is something else.
    """
    now = {
        "experiment": plain(job.experiment),
        "space": {key: of.model_dump(mode="json", exclude_none=True) for key, of in job.space.items()},
        "objective": job.asked,
        "seed": seed,
    }
    path = job.out / JOB
    with alone(job.out, "job"):
        then = read_json(path, TuneInfo)
        if then is None:
            write_json(path, now)
            return
    if changed := list(differences(then, now)):
        told = "; ".join(changed[:5]) + ("; ..." if len(changed) > 5 else "")
        raise UserError(
            job.out, f"holds trials of something else ({told})", "Choose another folder, or undo the change."
        )
