"""What a result is, in numbers: ``_summary.json``, and whether they pass the thresholds a user gave."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ...data.errors import UserError
from ...data.storage import storage
from ...data.storage.json_documents import Shape, parse_document
from .output_folder import SUMMARY, Place
from .statistics import added_up
from .writing import Thresholds

if TYPE_CHECKING:
    from .work_list import WorkList

Number = float | None
Means = dict[str, Number]
"""``TASK`` or ``DOMAIN.TASK`` -> the mean of its scores."""


class _Scores(Shape):
    mean: Number = None


class _ScoresOfTask(_Scores):
    domains: dict[str, _Scores] = Field(default_factory=dict)


class _Drift(Shape):
    against: str
    means: Means


class Summary(Shape):
    """``_summary.json``."""

    scores: dict[str, _ScoresOfTask]
    drift: _Drift | None = None


@dataclass(frozen=True)
class Previous:
    """The means of the summary before.

    Attributes:
        where: that is.
        means: of the scores.
    """

    where: str
    means: Means


def previous_summary(out: str, against: str | None, place: Place) -> Previous | None:
    """What a job's means are compared with: what the user says, else the result it overwrites, and after that what was before.

    Raises:
        UserError: what the user says is no summary.
    """
    if against is not None:
        named = storage.join(against, SUMMARY) if storage.is_folder(against) else against
        found = _read(named, "Name a folder of scores, or its _summary.json.")
        if found is None:
            raise UserError(f"--against {against}", "is no summary", "Name a folder of scores, or its _summary.json.")
        return Previous(named, _means(found["scores"]))
    found = _read(storage.join(out, SUMMARY), "Delete it.")
    if found is None:
        return None
    if place.folder != out:
        return Previous("the result before", _means(found["scores"]))
    drift = found.get("drift")  # of the job that goes on
    return Previous(drift["against"], drift["means"]) if drift else None


def summarized(
    work: "WorkList", statistics: Sequence[Mapping[str, Any]], run: str, seconds: float, rate: float
) -> dict[str, Any]:
    """The summary of a whole result.

    Args:
        work: that is done.
        statistics: of all its parts.
        run: the run that scored.
        seconds: that the job took, of those it did just now.
        rate: rows per second of these.
    """
    found = added_up(statistics)
    if not rate and (before := _read(storage.join(work.folder, SUMMARY), "Delete it.")) is not None:
        seconds, rate = before.get("seconds", seconds), before.get("rows_per_s", rate)  # of when there was work
    summary = {
        "rows": found.pop("rows"),
        **found,
        "run": run,
        "checkpoint": work.checkpoint,
        "input": {"files": work.files, "fingerprint": work.fingerprint},
        "seconds": round(seconds, 3),
        "rows_per_s": round(rate, 1),
        "drift": _drift(_means(found["scores"]), work.previous),
    }
    return summary | {"thresholds_passed": _passed(summary, work.writing.thresholds)}


def as_json(summary: Mapping[str, Any]) -> bytes:
    return json.dumps(summary, indent=1).encode()


def _drift(means: Means, before: Previous | None) -> dict[str, Any] | None:
    if before is None:
        return None
    shifts = {}
    for name, mean in means.items():
        was = before.means.get(name)
        shifts[name] = None if mean is None or was is None else mean - was
    return {"against": before.where, "means": before.means, "shifts": shifts}


def _passed(summary: Mapping[str, Any], limits: Thresholds) -> list[str]:
    """Which thresholds are passed, in words."""
    told = []
    rows, without = summary["rows"], summary["rows_without_a_score"]
    if limits.null_share is not None and without > limits.null_share * rows:
        why = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in summary["why"].items() if count)
        told.append(
            f"--max-null-share {limits.null_share:g}: {without:,} of {rows:,} rows ({without / rows:.2%}) have no score ({why})"
        )
    shifts = summary["drift"]["shifts"] if summary["drift"] else {}
    for name, shift in shifts.items():
        of_all = name.rpartition(".")[2]
        if name != of_all and shift == shifts.get(of_all):  # of the only domain
            continue
        if limits.mean_shift is not None and shift is not None and abs(shift) > limits.mean_shift:
            was = summary["drift"]["means"][name]
            told.append(
                f"--max-mean-shift {limits.mean_shift:g}: the mean score of {name} is {was + shift:.6g}, and was {was:.6g}"
            )
    return told


def _means(scores: Mapping[str, Any]) -> Means:
    means: Means = {}
    for task, told in scores.items():
        means[task] = told.get("mean")
        means |= {f"{domain}.{task}": one.get("mean") for domain, one in told.get("domains", {}).items()}
    return means


def _read(location: str, remedy: str) -> dict[str, Any] | None:
    content = storage.read(location) if not storage.is_folder(location) else None
    return None if content is None else parse_document(content, location, Summary, remedy)
