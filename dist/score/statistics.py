"""Numbers of a part's scores that can be added up, so that those of a job depend on its rows alone.

A part carries its own; ranks, their number and the order in which parts are done, or done again, change nothing. Quantiles
come from counts in fixed intervals, 512 to each doubling of the score.
"""

import base64
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .scoring_input import DOMAIN

_SHIFT = np.uint32(14)  # of float32's 32 bits: sign, exponent and the first 9 bits of the fraction say which interval
_SIGN = np.uint32(1 << 31)
_INTERVALS = 1 << 18
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def statistics_of(
    columns: Mapping[str, np.ndarray],
    bad: np.ndarray,
    domain_of: np.ndarray,
    tasks_of: Mapping[str, Sequence[str]],
    rows: int,
    unknown: np.ndarray | None = None,
) -> dict[str, Any]:
    """The statistics of a part, as JSON.

    Args:
        columns: task -> ``[N]`` float32, NaN where a row has no score.
        bad: ``[N]`` bool.
        domain_of: ``[N]`` the position of each row's domain in ``tasks_of``.
        tasks_of: domain -> tasks that it has.
        rows: of the input; those beyond N were unreadable.
        unknown: ``[N]`` bool, rows whose item cannot be scored as nothing is known of it; None: no row's.
    """
    unknown = np.zeros(len(bad), bool) if unknown is None else unknown
    domains: dict[str, Any] = {}
    for position, (domain, tasks) in enumerate(tasks_of.items()):
        here = domain_of == position
        count = int(here.sum())
        if not count:
            continue
        every = count == len(here)
        is_bad, is_unknown = (bad, unknown) if every else (bad[here], unknown[here])
        scores = {task: columns[task] if every else columns[task][here] for task in tasks}
        without = np.zeros(count, bool)
        for values in scores.values():
            without |= np.isnan(values)
        domains[domain] = {
            "rows": count,
            "bad": int(is_bad.sum()),
            "no_number": int((without & ~is_bad & ~is_unknown).sum()),
            "unknown_item": int((without & ~is_bad & is_unknown).sum()),
            "tasks": {task: _of_scores(values[~np.isnan(values)]) for task, values in scores.items()},
        }
    return {"rows": rows, "unreadable": rows - len(bad), "domains": domains}


def of_scores(
    table: pa.Table,
    bad: np.ndarray,
    tasks_of: Mapping[str, Sequence[str]],
    rows: int,
    unknown: np.ndarray | None = None,
) -> dict[str, Any]:
    """The statistics of a part of `score`; the rest as of `statistics_of`."""
    positions = pa.array(list(tasks_of), pa.string())
    domain_of = np.zeros(0, np.int64)
    if table.num_rows:
        domain_of = pc.index_in(table[DOMAIN], positions).to_numpy()
    tasks = dict.fromkeys(task for of_domain in tasks_of.values() for task in of_domain)
    columns = {task: table[f"score_{task}"].to_numpy().astype(np.float32) for task in tasks}  # null is NaN
    return statistics_of(columns, bad, domain_of, tasks_of, rows, unknown)


def _of_scores(scores: np.ndarray) -> dict[str, Any]:
    if not len(scores):
        return {"scored": 0}
    return {
        "scored": len(scores),
        "sum": float(scores.astype(np.float64).sum()),
        "least": float(scores.min()),
        "most": float(scores.max()),
        "counts": _packed(np.bincount(_interval(scores))),
    }


def merged(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The statistics of several parts as those of one, which take no more room; what `added_up` makes of them is the same."""
    parts = list(parts)
    of_domain: dict[str, list[Mapping[str, Any]]] = {}
    for part in parts:
        for domain, told in part["domains"].items():
            of_domain.setdefault(domain, []).append(told)
    return {
        **{name: sum(part[name] for part in parts) for name in ("rows", "unreadable")},
        "domains": {domain: _merged_domain(all_told) for domain, all_told in of_domain.items()},
    }


def _merged_domain(all_told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tasks = dict.fromkeys(task for told in all_told for task in told["tasks"])
    # The last is not in parts of older versions.
    return {
        **{name: sum(told.get(name, 0) for told in all_told) for name in ("rows", "bad", "no_number", "unknown_item")},
        "tasks": {
            task: _merged_scores([told["tasks"][task] for told in all_told if task in told["tasks"]]) for task in tasks
        },
    }


def _merged_scores(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = [one for one in found if one["scored"]]
    if not found:
        return {"scored": 0}
    return {
        "scored": sum(one["scored"] for one in found),
        "sums": [total for one in found for total in _sums(one)],  # each, as adding up in parts would round
        "least": min(one["least"] for one in found),
        "most": max(one["most"] for one in found),
        "counts": _packed(_counted(found)),
    }


def _sums(one: Mapping[str, Any]) -> list[float]:
    return one["sums"] if "sums" in one else [one["sum"]]


def _counted(found: Iterable[Mapping[str, Any]]) -> np.ndarray:
    counts = np.zeros(_INTERVALS, np.int64)
    for one in found:
        at, of_part = _unpacked(one["counts"])
        counts[at] += of_part
    return counts


def _packed(counts: np.ndarray) -> str:
    at = np.flatnonzero(counts)
    return base64.b64encode(zlib.compress(at.astype("<i4").tobytes() + counts[at].astype("<i8").tobytes())).decode()


def _interval(scores: np.ndarray) -> np.ndarray:
    """``[N]`` which interval a score is in; larger ones are in later intervals."""
    bits = np.ascontiguousarray(scores + np.float32(0)).view(np.uint32)  # -0 becomes 0
    return (np.where(bits & _SIGN, ~bits, bits | _SIGN) >> _SHIFT).astype(np.int64)


def _lower_end(interval: int) -> float:
    bits = np.uint32(interval) << _SHIFT
    return float(np.array(bits & ~_SIGN if bits & _SIGN else ~bits, np.uint32).view(np.float32))


def _unpacked(counts: str) -> tuple[np.ndarray, np.ndarray]:
    packed = zlib.decompress(base64.b64decode(counts))
    intervals = len(packed) // 12
    return np.frombuffer(packed, "<i4", intervals), np.frombuffer(packed, "<i8", intervals, 4 * intervals)


def described(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many scores there are, their mean, least, most and `QUANTILES`; of parts' statistics of one task."""
    found = [one for one in found if one["scored"]]
    scored = sum(one["scored"] for one in found)
    if not scored:
        return {"scored": 0, "mean": None, "least": None, "most": None, "quantiles": {}}
    counts = _counted(found)
    least, most = min(one["least"] for one in found), max(one["most"] for one in found)
    upto = np.cumsum(counts)

    def quantile(share: float) -> float:
        place = share * (scored - 1)
        interval = int(np.searchsorted(upto, place, "right"))
        before = upto[interval] - counts[interval]
        low, high = _lower_end(interval), _lower_end(interval + 1)
        inside = (place - before + 0.5) / counts[interval]
        return float(min(max(low + (high - low) * min(inside, 1.0), least), most))

    return {
        "scored": scored,
        "mean": math.fsum(total for one in found for total in _sums(one)) / scored,
        "least": least,
        "most": most,
        "quantiles": {f"p{round(share * 100):02d}": quantile(share) for share in QUANTILES},
    }


def added_up(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What parts' statistics say together: rows, those without a score by reason, and each task's scores, in all and by domain."""
    whole = merged(parts)
    of_domain = whole["domains"]
    rows, unreadable = whole["rows"], whole["unreadable"]
    bad, no_number, unknown = (
        sum(told[name] for told in of_domain.values()) for name in ("bad", "no_number", "unknown_item")
    )
    tasks = dict.fromkeys(task for told in of_domain.values() for task in told["tasks"])
    scores = {}
    for task in tasks:
        by_domain = {domain: told["tasks"][task] for domain, told in sorted(of_domain.items()) if task in told["tasks"]}
        has = sum(of_domain[domain]["rows"] for domain in by_domain)
        scores[task] = described(list(by_domain.values())) | {
            "domain_lacks_task": rows - unreadable - has,
            "domains": {domain: described([found]) for domain, found in by_domain.items()},
        }
    return {
        "rows": rows,
        "rows_without_a_score": unreadable + bad + no_number + unknown,
        "why": {"bad_rows": bad, "no_number": no_number, "unreadable_rows": unreadable, "unknown_item": unknown},
        "scores": scores,
    }
