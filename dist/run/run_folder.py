"""The run folder: everything one job writes, and reading it back."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ...data.config.experiment import Experiment
from ...data.config.kinds import Kinds
from ...data.config.load import load_experiment
from ...data.counting.statistics import STATISTICS, Statistics
from ...data.errors import UserError
from ...data.storage.json_documents import read_document
from ...data.storage.local_writes import refuse_links, write_text
from ...data.storage.mirror import fetch, files_in, origin, publish_changed
from ...data.storage.storage import check_writable, names
from ...model.kinds import KINDS
from .moved_runs import is_there, settled
from .old_runs import FORMAT, check_meaning, lookup_order
from .run_documents import RunInfo, is_step

EXPERIMENT, EVENTS, VOCABULARY, METRICS = "experiment.yaml", "events.json", "vocabulary", "metrics.jsonl"
VALIDATION, EVALUATION, RUN_INFO, REPORT = "validation.json", "evaluation.json", "run.json", "report.html"
ALIGNMENT = "alignment.json"
"""Of a preference alignment: what it has changed."""
CHECKPOINTS, COMMITTED, BEST, MEMBERS = "checkpoints", "COMMITTED", "best.json", "members"
COUNTING = "counting"
CANDIDATES = "candidates"
"""Of a preference alignment: what its generator found, and what the reward says of it."""
# Of a run that is updated: runs of their own, and what leads from one to the next.
INCREMENTS, DELTAS = "increments", "deltas"
BEFORE_ONE = {
    VOCABULARY,
    EVENTS,
    RUN_INFO,
    COUNTING,
    CANDIDATES,
}  # what a folder may hold, if a job died while it made a run of it


def write_json(path: Path, value: Any) -> None:
    """`write_text` of a JSON value."""
    write_text(path, json.dumps(value, indent=1))


def read_json(path: Path, shape: Any = dict[str, Any], default: Any = None) -> Any:
    """The JSON value of a run's file, of a shape as in `run_documents`; ``default`` where there is none.

    Raises:
        UserError: it is damaged.
    """
    return read_document(path, shape, "Restore it, or remove it and run the command that wrote it again.", default)


def read_metrics(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The logged steps in order, and how many lines could not be read.

    A job that was killed may leave half a line, and one that resumed logs the steps after its checkpoint again: the
    last word on a step counts.
    """
    steps: dict[int, dict[str, Any]] = {}
    unreadable = 0
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if row is not None and is_step(row):
            steps[row["step"]] = row
        else:
            unreadable += 1
    return [steps[step] for step in sorted(steps)], unreadable


def fetch_run(run: Path) -> None:
    """Makes a mirror of a run what the run is, but for the checkpoints' own files and the tables of ids, which are fetched when they are
    used, and for its increments, which are other runs.

    Raises:
        UserError: what it stands for holds something else than a run.
        StorageError: the object store cannot be reached or refuses.
    """
    uri = origin(run)
    if uri is None:
        return
    there = names(uri)
    if EXPERIMENT not in there:
        if (run / COUNTING).is_dir():  # which this machine goes on from
            for left in (path for path in run.iterdir() if path.name != COUNTING):
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        else:
            shutil.rmtree(run, ignore_errors=True)
        if there - BEFORE_ONE:  # a job that died while it made the run leaves these
            raise UserError(uri, "is not empty and holds no run", "Give a run's folder, or a new one.")
        return
    fetch(run, lambda name: _is_small(_in_member(name)))
    for folder in (*run.glob(f"{CHECKPOINTS}/step_*"), *run.glob(f"{MEMBERS}/*/{CHECKPOINTS}/step_*")):
        if not (folder / COMMITTED).is_file():
            shutil.rmtree(folder, ignore_errors=True)


def _is_small(name: str) -> bool:
    of_checkpoint = name.startswith(f"{CHECKPOINTS}/") and name.endswith(f"/{COMMITTED}")
    return "/" not in name or name == f"{VOCABULARY}/{STATISTICS}" or of_checkpoint


def _in_member(name: str) -> str:
    """A file's name in the folder of the model that it belongs to."""
    return name.split("/", 2)[2] if name.startswith(f"{MEMBERS}/") and name.count("/") > 1 else name


def publish_run(run: Path) -> None:
    """Writes what a training has changed in a mirror to where the run is; its experiment, and what tells of a checkpoint, last.

    Not the evaluation, which another job may have written there, nor the checkpoints' own files, which `Checkpoints` writes, nor what
    has been counted so far, nor what updates have made of the run.
    """

    def order(name: str) -> tuple[bool, bool]:
        return _in_member(name) in (EXPERIMENT, BEST), name.endswith(f"/{COMMITTED}")

    def is_ours(name: str) -> bool:
        return (
            name != EVALUATION
            and not name.startswith((f"{COUNTING}/", f"{INCREMENTS}/", f"{DELTAS}/"))
            and (not _in_member(name).startswith(f"{CHECKPOINTS}/") or order(name)[1])
        )

    ours = [name for name in files_in(run) if is_ours(name)]
    publish_changed(run, sorted(ours, key=order))


def check_open_to_write(run: Path, tries: bool = True) -> None:
    """Finds out before the work whether a run's folder takes what is measured; in a bucket, by trying, if it ``tries``.

    Raises:
        UserError: it is another user's, or on a disk that cannot be written.
    """
    if (uri := origin(run)) is not None:
        if tries:
            check_writable(uri)
    elif not os.access(run, os.W_OK | os.X_OK):
        raise UserError(
            run,
            "is read-only, and results are written into it",
            "Copy the run into a folder of yours, and give that.",
        )


def open_experiment(run: Path, kinds: Kinds = KINDS) -> Experiment:
    """The experiment of an existing run, without its vocabularies; ``kinds`` are those it could choose from.

    Raises:
        UserError: there is no complete run in the folder, or one whose weights do not mean today what they did.
    """
    fetch_run(run)
    refuse_links(run)
    for needed in (EXPERIMENT, f"{VOCABULARY}/statistics.json"):
        if not (run / needed).is_file():
            raise UserError(
                run, f"has no {needed}, so it is not a run", "Give the folder that `foundrank train` wrote."
            )
    experiment = settled(load_experiment(run / EXPERIMENT, kinds=kinds), made_as(run)[0].get("folder"), run, is_there)
    check_meaning(run, *made_as(run), experiment)
    return experiment


def made_as(run: Path) -> tuple[dict[str, Any], list[Path]]:
    """What ``run.json`` says, and the complete checkpoints."""
    return read_json(run / RUN_INFO, RunInfo, {}), sorted(
        marker.parent for marker in (run / CHECKPOINTS).glob(f"*/{COMMITTED}")
    )


def order_of_lookups(run: Path) -> list[str] | None:
    """`old_runs.lookup_order` of a run.

    Raises:
        UserError: as that says.
    """
    info, checkpoints = made_as(run)
    if info.get("format") == FORMAT:
        return None
    experiment = load_experiment(run / EXPERIMENT, kinds=KINDS)
    layout = _saved_statistics(run).layout(experiment)
    return lookup_order(run, info, checkpoints, experiment, layout)


def open_run(run: Path, kinds: Kinds = KINDS) -> tuple[Experiment, Statistics]:
    """The experiment and the statistics of an existing run.

    Raises:
        UserError: as of `open_experiment`.
    """
    experiment = open_experiment(run, kinds)
    return experiment, _statistics(run, experiment)


def open_statistics(run: Path, experiment: Experiment) -> Statistics:
    """The statistics of a run whose experiment is known.

    Raises:
        UserError: they are damaged, or not this experiment's.
    """
    fetch_run(run)
    return _statistics(run, experiment)


def _statistics(run: Path, experiment: Experiment) -> Statistics:
    order_of_lookups(run)
    statistics = _saved_statistics(run)
    statistics.check_fits(experiment, run / VOCABULARY)
    return statistics


def _saved_statistics(run: Path) -> Statistics:
    fetch(run / VOCABULARY)
    return Statistics.load(run / VOCABULARY)


def items_kept(run: Path) -> list[str]:
    """The domains whose items a run has kept."""
    return read_json(run / VOCABULARY / STATISTICS, dict[str, Any], {}).get("items", [])


def id_types_of(run: Path) -> dict[str, str]:
    """Embedding table -> ``string`` or ``integer``, what its ids are in a run; empty where there is no run yet."""
    return read_json(run / VOCABULARY / STATISTICS, dict[str, Any], {}).get("id_types", {})
