"""What is compared: arms, each one run or several that differ in their seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...data.config.kinds import Kinds
from ...data.errors import UserError
from ...data.storage.file_identity import changed_content, identities
from ...data.storage.file_systems import Location
from ...model.kinds import KINDS
from ..evaluate.prediction_file import alike, predictions_file, read_told, told_of
from ..evaluate.prepare import EvaluationJob, open_to_evaluate
from ..promote.promote import current_run
from ..retrieval.protocol import Protocol, told_in_words
from ..run.kept_checkpoints import best_of_members, identity
from ..run.run_folder import check_open_to_write

_AN_ARM = "Write NAME=RUN,RUN, e.g. texts=runs/texts.1,runs/texts.2"


@dataclass(frozen=True)
class Arm:
    """Runs of one kind.

    Attributes:
        name: what it is called.
        runs: what is evaluated of each, by rising seed.
    """

    name: str
    runs: tuple[EvaluationJob, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the runs' experiments."""
        return tuple(job.experiment.seed for job in self.runs)

    def goes_with(self, other: "Arm") -> bool:
        """Whether the runs of both were trained from the same seeds, as many models of each run."""
        mine, theirs = ([(job.experiment.seed, job.experiment.seeds) for job in arm.runs] for arm in (self, other))
        return mine == theirs


@dataclass(frozen=True)
class Comparison:
    """What is to be compared, resolved and checked.

    Attributes:
        arms: the first is what the others are compared with.
        split: of the events.
        todo: runs that have no predictions of it yet.
        replicates: draws of users and seeds.
        seed: of the draws.
    """

    arms: tuple[Arm, ...]
    split: str
    todo: tuple[EvaluationJob, ...]
    replicates: int
    seed: int

    @property
    def runs(self) -> list[EvaluationJob]:
        """All of them."""
        return [job for arm in self.arms for job in arm.runs]


def prepare_comparison(
    asked: Sequence[str],
    split: str,
    replicates: int,
    seed: int,
    protocol: Protocol | None = None,
    slices: Sequence[str] = (),
    kinds: Kinds = KINDS,
    writes: bool = True,
) -> Comparison:
    """Checks what is to be compared.

    Args:
        asked: ``RUN``, or ``NAME=RUN,RUN`` of several seeds; two at least.
        split: of the events.
        replicates: draws of users and seeds.
        seed: of the draws.
        protocol: among which items the next one is sought.
        slices: columns of the events by which rows are sliced, too.
        kinds: what the runs' experiments could choose from.
        writes: whether it is tried out that predictions can be written.

    Raises:
        UserError: fewer than two arms, two of one name, a run twice, two runs in an arm with a model of one seed, no run, no such split, other rows than
            the first run's, or bad events.
    """
    named = _named(asked)
    arms = tuple(
        Arm(name, _opened(name, runs, split, protocol or Protocol(), slices, kinds)) for name, runs in named.items()
    )
    _check_same_rows([job for arm in arms for job in arm.runs], split)
    todo = tuple(job for arm in arms for job in arm.runs if not _has_predictions(job))
    for job in todo:
        check_open_to_write(job.folder, tries=writes)
    return Comparison(arms, split, todo, replicates, seed)


def _named(asked: Sequence[str]) -> dict[str, list[str]]:
    """Arm -> its runs."""
    out: dict[str, list[str]] = {}
    seen: set[str] = set()
    for text in asked:
        name, equals, runs = text.partition("=")
        if not equals or "/" in name or Path(text).is_dir():
            name, runs = _short_name(text, asked), text
        found = [run for part in runs.split(",") if (run := part.strip())]
        if not name or not found:
            raise UserError(f"foundrank compare {text}", "names no run", _AN_ARM)
        for run in found:
            if run.rstrip("/") in seen:
                raise UserError(f"foundrank compare {run}", "is named twice", "Name each run once.")
            seen.add(run.rstrip("/"))
        if name in out:
            raise UserError(f"foundrank compare {text}", f"is the second arm called '{name}'", _AN_ARM)
        out[name] = found
    if len(out) < 2:
        raise UserError("foundrank compare", "needs two runs, or two arms, to compare", _AN_ARM)
    return out


def _short_name(run: str, every: Sequence[str]) -> str:
    """The last part of a run's path, where no other run has it; else the whole."""
    last = run.rstrip("/").rpartition("/")[2]
    return last if sum(other.rstrip("/").rpartition("/")[2] == last for other in every) == 1 else run


def _opened(
    name: str, runs: Sequence[Location], split: str, protocol: Protocol, slices: Sequence[str], kinds: Kinds
) -> tuple[EvaluationJob, ...]:
    splits = (split,) if protocol.domain is None else ("train", split)
    jobs = [open_to_evaluate(current_run(run), split, splits, kinds, True, protocol, slices) for run in runs]
    jobs.sort(key=lambda job: job.experiment.seed)
    for one, other in pairwise(jobs):
        if (seed := other.experiment.seed) < one.experiment.seed + one.experiment.seeds:
            told = f"has two runs with a model of seed {seed}, which are no samples of what other seeds would give"
            remedy = "Train them with seeds of their own: --set seed=N, as far apart as each run has `seeds`."
            raise UserError(f"foundrank compare {name}", told, remedy)
    return tuple(jobs)


def _check_same_rows(jobs: Sequence[EvaluationJob], split: str) -> None:
    """Makes sure that domains of one name have the same events.

    Raises:
        UserError: they have not, or there is no domain that all have.
    """
    first, *others = jobs
    for job in others:
        both = [of.protocol.told(of.experiment) for of in (first, job) if of.experiment.model.next_item is not None]
        if len(both) == 2 and both[0] != both[1]:
            what = f"seeks the next item among {told_in_words(both[1])}, and {first.run} among {told_in_words(both[0])}"
            within, repeats = ([told.get(of, False) for told in both] for of in ("within_domains", "repeat"))
            options = ["--domain NAME"] if within[0] != within[1] else []
            options += ["--repeat or --no-repeat"] if repeats[0] != repeats[1] else []
            raise UserError(job.run, what, f"Say {', and '.join(options)}, for all of them.")
    common = set(first.files)
    known: dict[tuple[str, ...], list[dict]] = {}
    for job in others:
        for name in first.files.keys() & job.files.keys():
            files = [of.files[name].files for of in (first, job)]
            for each in files:
                if each not in known:
                    known[each] = identities(each)
            ours, theirs = (known[each] for each in files)
            if (changed := changed_content(ours, theirs)) is not None:
                raise UserError(
                    f"{job.run}: domains.{name}.events.{split}",
                    f"has other files than {first.run}, the first of them {changed}",
                    "Compare runs whose experiments name the same events for it.",
                )
        common &= set(job.files)
    if not common:
        raise UserError(
            "foundrank compare", f"the runs have no domain in common that has a {split} split", "Compare others."
        )


def are_of(told: Mapping[str, Any], job: EvaluationJob) -> bool:
    """Whether predictions are of the checkpoint that is a run's best now, and of all files and the protocol as they are."""
    return alike(told, told_of(job, identity(best_of_members(job.folder)), told))


def _has_predictions(job: EvaluationJob) -> bool:
    told = read_told(predictions_file(job.folder, job.split))
    return told is not None and are_of(told, job)
