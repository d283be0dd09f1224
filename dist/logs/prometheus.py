"""What a job says of itself to Prometheus: a text file that node exporter's textfile collector, or anything else, reads.

Written aside and renamed, by rank 0, so that whoever reads it sees a whole one.
"""

import re
import threading
import time
from contextlib import suppress

from ...data.escaping import redacted, visible
from ...data.storage.local_writes import replace_file
from .settings import metrics_file, rank

WORK = {
    "counting": "rows",
    "training": "samples",
    "evaluation": "rows",
    "scoring": "rows",
    "recommendation": "users",
    "embedding": "contents",
    "tokenizing": "items",
}
"""Kinds of work that have a length, and what they take one after another."""

FAMILIES: dict[str, tuple[str, str]] = {
    "foundrank_job_start_time_seconds": ("gauge", "when the job began, in seconds since 1970"),
    "foundrank_job_update_time_seconds": ("gauge", "when this was written, in seconds since 1970: old means dead"),
    "foundrank_job_running": ("gauge", "1 while the job runs, 0 when it has ended"),
    "foundrank_job_exit_status": ("gauge", "the status that the job has left with"),
    "foundrank_job_warnings_total": ("counter", "warnings that rank 0 has told"),
    "foundrank_job_errors_total": ("counter", "mistakes and faults that have ended the job"),
    "foundrank_training_step": ("gauge", "steps taken since the training began, resumed ones included"),
    "foundrank_training_epoch": ("gauge", "epoch that the training is in, the first being 1"),
    "foundrank_training_loss": ("gauge", "mean loss per label, as of metrics.jsonl"),
    "foundrank_training_checkpoint_time_seconds": (
        "gauge",
        "when the newest checkpoint was whole, in seconds since 1970",
    ),
}
for _work, _unit in WORK.items():
    FAMILIES |= {
        f"foundrank_{_work}_progress_ratio": ("gauge", f"share of the {_work} that is done"),
        f"foundrank_{_work}_{_unit}_total": ("counter", f"{_unit} done by this job, all ranks"),
        f"foundrank_{_work}_{_unit}_per_second": ("gauge", f"{_unit} a second, all ranks"),
        f"foundrank_{_work}_remaining_seconds": ("gauge", "what is left at this rate"),
    }

_LINE = re.compile(r"^(\w+)\{(.*)\} (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
_values: dict[str, float] = {}
_labels: dict[str, str] = {}
_written: str | None = None
_lock = threading.RLock()  # Ctrl-C may come while this thread writes


def label(**labels: str) -> None:
    """Says what the job is, by names that all its numbers carry: ``command``, ``experiment``, ``run``."""
    _labels.update(labels)


def note(name: str, value: float | None) -> None:
    """Takes note of a number of `FAMILIES`; None where there is none any more."""
    assert name in FAMILIES, name
    if value is None:
        _values.pop(name, None)
    else:
        _values[name] = float(value)


def value(name: str) -> float | None:
    """What was noted last."""
    return _values.get(name)


def add(name: str, more: float = 1) -> None:
    """Adds to a counter."""
    note(name, _values.get(name, 0) + more)


def begin() -> None:
    """A job begins: what was noted of one before, in the same process, is no more."""
    global _written
    _values.clear()
    _labels.clear()
    _written = None
    note("foundrank_job_start_time_seconds", time.time())
    note("foundrank_job_running", 1)
    for name in ("foundrank_job_errors_total", "foundrank_job_warnings_total"):
        note(name, 0)


def write() -> None:
    """Writes the file, where one was asked for. A disk that is full for a while is the job's own trouble, not this file's."""
    global _written
    path = metrics_file()
    if path is None or rank() != 0 or "foundrank_job_running" not in _values:
        return
    with _lock:
        note("foundrank_job_update_time_seconds", time.time())
        text = page(_values, _labels)
        with suppress(OSError):
            # Node exporter takes every file whose name ends in .prom: this one's does not.
            replace_file(path, text.encode())
            _written = text


def ended(status: int, failed: bool) -> None:
    """The job has left with this status: the last that its file says."""
    path = metrics_file()
    if path is None or rank() != 0 or "foundrank_job_running" not in _values:
        return
    with suppress(OSError, ValueError):
        last = path.read_text(encoding="utf-8")
        if last != _written:  # by rank 0, which this process has started
            values, labels = read(last)
            if values.get("foundrank_job_update_time_seconds", 0) >= _values["foundrank_job_start_time_seconds"]:
                _values.update(values)
                _labels.update(labels)
    note("foundrank_job_running", 0)
    note("foundrank_job_exit_status", status)
    if failed:
        note("foundrank_job_errors_total", max(1, _values.get("foundrank_job_errors_total", 0)))
    write()


def page(values: dict[str, float], labels: dict[str, str]) -> str:
    """Prometheus' text format, version 0.0.4."""
    told = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    lines = []
    for name, (kind, what) in FAMILIES.items():
        if name in values:
            lines += [f"# HELP {name} {what}", f"# TYPE {name} {kind}", f"{name}{{{told}}} {_number(values[name])}"]
    return "\n".join([*lines, ""])


def read(text: str) -> tuple[dict[str, float], dict[str, str]]:
    """What `page` was given."""
    values, labels = {}, {}
    for line in text.splitlines():
        if (match := _LINE.match(line)) is not None and match[1] in FAMILIES:
            values[match[1]] = float(match[3])
            labels = {name: _ESCAPE.sub(_unescaped, value) for name, value in _LABEL.findall(match[2])}
    return values, labels


def _escaped(value: str) -> str:
    return visible(redacted(value), keep="\n").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)
