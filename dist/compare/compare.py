"""Runs on the same rows: what each says of them, and the differences between arms."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data.arrow.ids import mix
from ...data.config.sections.task import Metric, Task
from ...data.errors import UserError
from ...data.storage.file_systems import Location
from ..evaluate.column_slices import ColumnSlices, read_slices
from ..evaluate.evaluate import load_best, predict_run
from ..evaluate.prediction_file import predictions_file, read_predictions
from ..evaluate.prepare import EvaluationJob
from ..evaluate.slices import slices_by_count
from ..logs.progress import Progress
from ..logs.records import warning
from ..ranks.runtime import Runtime
from ..retrieval.protocol import NEXT_ITEM
from .arms import Comparison, are_of
from .differences import Surface, differences
from .resampling import drawn_users
from .statistics import RANKED, LabelledRows, measured, numbers, numbers_of_ranks

_OF_LISTS = np.uint64(0x9E3779B97F4A7C15)  # so that keys of lists are none of users


def compare(job: Comparison, runtime: Runtime) -> dict[str, Any]:
    """Predicts for the runs that have no predictions yet, and compares all of them.

    Returns:
        On rank 0 ``split``, ``replicates``, ``arms`` (name, runs, seeds), ``overflowed`` (rows left out, as some run has no number for
        them) and ``rows``, as of `differences`. Elsewhere an empty dict.

    Raises:
        UserError: as `predict_run`; runs with other labels, users or lists than the first has, or nothing to compare.
    """
    for each in job.todo:
        predict_run(each, load_best(each, runtime), runtime)
    return _compared(job) if runtime.is_main else {}


def _compared(job: Comparison) -> dict[str, Any]:
    runs = [_Rows(each) for each in job.runs]
    metrics: dict[str, list[Metric]] = {}
    surfaces: list[Surface] = []
    overflowed = 0
    job_of_first = job.runs[0]
    names = list(job_of_first.experiment.domains)
    further = read_slices(job_of_first.slices, job_of_first.files, names, job_of_first.experiment.bad_data)
    every = np.unique(np.concatenate([runs[0].drawn_with(domain) for domain in runs[0].domains]))
    common = [(d, t) for d in runs[0].domains for t in runs[0].tasks_of(d) if all(t in run.tasks_of(d) for run in runs)]
    common = _among_the_same_items(runs, common)
    with Progress("drawing users", "replicates", len(common) * job.replicates) as done:
        for domain, task in common:
            surface, left_out = _surface(runs, domain, task, every, further)
            overflowed += left_out
            for drawn in drawn_users(len(every), job.replicates, job.seed):
                surface.draw(drawn)
                done.add(len(drawn))
            surfaces.append(surface)
            metrics[task] = list(RANKED) if task == NEXT_ITEM else measured(runs[0].task(domain, task))
    rows = differences(surfaces, metrics, job.arms, job.seed)
    if not rows:
        raise UserError("foundrank compare", "the runs have no task and no next item in common", "Compare others.")
    if overflowed:
        warning(f"{overflowed:,} rows are left out: for some run they came out as no number")
    arms = [{"name": arm.name, "runs": [str(of.run) for of in arm.runs], "seeds": list(arm.seeds)} for arm in job.arms]
    return {"split": job.split, "replicates": job.replicates, "arms": arms, "overflowed": overflowed, "rows": rows}


class _Rows:
    """What a run says of the rows of each domain."""

    def __init__(self, job: EvaluationJob):
        experiment = job.experiment
        self.run, self._domains = job.run, experiment.domains
        self._tasks = list(dict.fromkeys(task for domain in experiment.domains.values() for task in domain.tasks))
        names = list(experiment.domains)
        file = predictions_file(job.folder, job.split)
        found = read_predictions(file, self._tasks, names)
        if not are_of(found.told, job):
            told = "has changed since: it is of another protocol, checkpoint or files"
            raise UserError(file, told, "Run foundrank compare again, with no other evaluation of the run beside it.")
        self.columns, self.candidates = found.columns, found.told.get("candidates", {})
        there = set(np.unique(self.columns["domain"]).tolist())
        self.domains = [name for d, name in enumerate(names) if d in there]
        self._where = {name: np.flatnonzero(self.columns["domain"] == names.index(name)) for name in self.domains}

    def tasks_of(self, domain: str) -> list[str]:
        if domain not in self.domains:
            return []
        return [*self._domains[domain].tasks, *([NEXT_ITEM] if "rank" in self.columns else [])]

    def task(self, domain: str, task: str) -> Task:
        return self._domains[domain].tasks[task]

    def where(self, domain: str) -> NDArray:
        return self._where[domain]

    def of(self, domain: str, name: str) -> NDArray:
        return self.columns[name][self._where[domain]]

    def of_task(self, domain: str, task: str, name: str) -> NDArray:
        return self.of(domain, name)[:, self._tasks.index(task)]

    def has_users(self, domain: str) -> bool:
        return self._domains[domain].users

    def has_lists(self, domain: str) -> bool:
        return self._domains[domain].list_column is not None

    def weighs(self, domain: str, task: str) -> bool:
        return self._domains[domain].weighs_metrics_of(task)

    def drawn_with(self, domain: str) -> NDArray:
        """``[N]`` key of whom each row is drawn with: its user; its list, where it knows no user; else itself."""
        users = self.of(domain, "user")
        if "list" not in self.columns:
            return users
        of_list = mix(self.of(domain, "list") ^ _OF_LISTS)
        alone = self.of(domain, "list_known") & ~self.of(domain, "user_known")
        return np.where(alone, of_list, users)

    def counts(self, domain: str) -> Mapping[str, NDArray]:
        names = [name for name in self.columns if name.startswith("seen/")]
        return {name.removeprefix("seen/"): self.of(domain, name) for name in names}


def _surface(
    runs: list[_Rows], domain: str, task: str, every: NDArray, further: Sequence[ColumnSlices]
) -> tuple[Surface, int]:
    """A domain's rows of a task in all slices, of all runs; and how many rows are left out."""
    first, slices = runs[0], slices_by_count(runs[0].counts(domain))
    for column in further:
        slices |= column.masks(first.where(domain))
    of_row = np.searchsorted(every, first.drawn_with(domain))
    for run in runs[1:]:
        _check_same(first, run, domain, task)
    if task == NEXT_ITEM:
        counted, names = first.of(domain, "chosen"), "predicted"
        fine = [run.of(domain, names) for run in runs]
        ranks = [(run.of(domain, "rank"), run.of(domain, "percentile")) for run in runs]
    else:
        counted = first.of_task(domain, task, "mask")
        scores = [run.of_task(domain, task, "scores") for run in runs]
        fine = [np.isfinite(of) for of in scores]
        rows = LabelledRows(
            first.task(domain, task),
            first.of_task(domain, task, "labels"),
            of_row,
            len(every),
            first.of(domain, "user") if first.has_users(domain) else None,
            first.of(domain, "list") if first.has_lists(domain) else None,
            first.of(domain, "list_known") if first.has_lists(domain) else None,
            first.of_task(domain, task, "weights") if first.weighs(domain, task) else None,
        )
    kept = counted & np.logical_and.reduce(fine)
    surface = Surface(domain, task)
    for name, of_slice in slices.items():
        at = np.flatnonzero(kept & of_slice)
        if not len(at):
            continue
        if task == NEXT_ITEM:
            found = [numbers_of_ranks(rank[at], of[at], of_row[at], len(every)) for rank, of in ranks]
        else:
            found = [numbers(rows.take(at), of[at]) for of in scores]
        surface.add(name, len(at), np.unique(of_row[at]), found)
    return surface, int((counted & ~kept).sum())


def _among_the_same_items(runs: list[_Rows], common: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those domains and tasks in which all runs seek the next item among the same items: among fewer, or others, it is easier or harder
    to find.

    Raises:
        UserError: there are none.
    """
    first, *others = runs
    wrong: dict[tuple[Location, str], list[str]] = {}
    for domain in (domain for domain, task in common if task == NEXT_ITEM):
        mine = first.candidates.get(domain)
        for other in others:
            if (theirs := other.candidates.get(domain)) != mine:
                told = f"seeks the next item among {_many(theirs)} items, and {first.run} among {_many(mine)}, which are not the same"
                wrong.setdefault((other.run, told), []).append(domain)
                break
    remedy = (
        "Compare runs whose training events and catalog have the same items, or by the items of one domain: --domain NAME. "
        "With --negatives, all have to know something of the same items: leave it out."
    )
    apart = {domain for domains in wrong.values() for domain in domains}
    kept = [(domain, task) for domain, task in common if task != NEXT_ITEM or domain not in apart]
    for (run, told), domains in wrong.items():
        if not kept:
            raise UserError(run, told, remedy)
        warning(f"{run} {told}: it is not compared in {', '.join(domains)}. {remedy}")
    return kept


def _many(among: Mapping[str, Any] | None) -> str:
    return "no" if among is None else f"{among['items']:,}"


def _check_same(first: _Rows, other: _Rows, domain: str, task: str) -> None:
    """Makes sure that two runs see the same rows.

    Raises:
        UserError: their labels differ, or who is drawn together.
    """
    if task == NEXT_ITEM:
        pairs = {"rows that count for the next item": (first.of(domain, "chosen"), other.of(domain, "chosen"))}
    else:
        masks = [of.of_task(domain, task, "mask") for of in (first, other)]
        labels = [
            np.where(of_task, of.of_task(domain, task, "labels"), np.nan)
            for of, of_task in zip((first, other), masks, strict=True)
        ]
        pairs = {f"labels of {task}": (labels[0], labels[1])}
        weighs = [of.weighs(domain, task) for of in (first, other)]
        if weighs[0] != weighs[1]:
            pairs["weights of rows in metrics"] = (np.zeros(1), np.ones(1))
        elif weighs[0]:
            pairs["weights of rows in metrics"] = tuple(of.of_task(domain, task, "weights") for of in (first, other))  # type: ignore[assignment]
    pairs["users"] = (first.drawn_with(domain), other.drawn_with(domain))
    for what, (one, two) in pairs.items():
        if not np.array_equal(one, two, equal_nan=one.dtype.kind == "f"):
            told = f"has other {what} in {domain} than {first.run}"
            raise UserError(other.run, told, "Compare runs whose experiments say the same of it.")
