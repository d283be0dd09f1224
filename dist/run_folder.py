"""The run folder: everything one job writes, and reading it back."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..data.documents import read_document
from ..data.errors import UserError
from ..data.experiment import Experiment
from ..data.globs import would_name
from ..data.identity import identities, same_content
from ..data.load import dump_experiment, load_experiment
from ..data.local_files import refuse_links, replace_file
from ..data.mirror import fetch, files_in, origin, publish_changed
from ..data.new_folder import check_can_be_made, is_free, new_folder
from ..data.parquet import EventFiles
from ..data.statistics import STATISTICS, Statistics
from ..data.storage import check_writable, join, names
from .old_runs import FORMAT, check_meaning, lookup_order
from .run_documents import Events, RunInfo, is_step

EXPERIMENT, EVENTS, VOCABULARY, METRICS = "experiment.yaml", "events.json", "vocabulary", "metrics.jsonl"
VALIDATION, EVALUATION, RUN_INFO, REPORT = "validation.json", "evaluation.json", "run.json", "report.html"
CHECKPOINTS, COMMITTED, BEST = "checkpoints", "COMMITTED", "best.json"
_BEFORE_ONE = {VOCABULARY, EVENTS, RUN_INFO}  # what a folder may hold, if a job died while it made a run of it


def write_text(path: Path, text: str) -> None:
    """Writes a file so that a reader sees the old one or the new one, never a part. One process at a time."""
    # One name, so that the next write takes what a killed one left.
    replace_file(path, text.encode(), path.with_name(f".{path.name}.tmp"))
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, would survive the machine's power going out."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
    """Makes a mirror of a run what the run is, but for the checkpoints' own files, which are fetched when one is used.

    Raises:
        UserError: what it stands for holds something else than a run.
        StorageError: the object store cannot be reached or refuses.
    """
    uri = origin(run)
    if uri is None:
        return
    there = names(uri)
    if EXPERIMENT not in there:
        shutil.rmtree(run, ignore_errors=True)
        if there - _BEFORE_ONE:  # a job that died while it made the run leaves these
            raise UserError(uri, "is not empty and holds no run", "Give a run's folder, or a new one.")
        return
    fetch(run, lambda name: "/" not in name or name.startswith(f"{VOCABULARY}/") or name.endswith(f"/{COMMITTED}"))
    for folder in (run / CHECKPOINTS).glob("step_*"):
        if not (folder / COMMITTED).is_file():
            shutil.rmtree(folder, ignore_errors=True)


def publish_run(run: Path) -> None:
    """Writes what a training has changed in a mirror to where the run is; its experiment, and what tells of a checkpoint, last.

    Not the evaluation, which another job may have written there, nor the checkpoints' own files, which `Checkpoints` writes.
    """

    def order(name: str) -> tuple[bool, bool]:
        return name in (EXPERIMENT, BEST), name.endswith(f"/{COMMITTED}")

    ours = [n for n in files_in(run) if n != EVALUATION and (not n.startswith(f"{CHECKPOINTS}/") or order(n)[1])]
    publish_changed(run, sorted(ours, key=order))


def create_run(run: Path, experiment: Experiment, statistics: Statistics, train: Mapping[str, EventFiles]) -> None:
    """Makes the folder of a new run, whole or not at all.

    Args:
        run: its folder.
        experiment: the experiment.
        statistics: of its training events.
        train: domain -> its training files.
    """
    try:
        with new_folder(run, last=EXPERIMENT, left=_BEFORE_ONE) as folder:
            statistics.save(folder / VOCABULARY)
            (folder / EVENTS).write_text(json.dumps(_described(train), indent=1), encoding="utf-8")
            (folder / RUN_INFO).write_text(json.dumps({"format": FORMAT}), encoding="utf-8")
            (folder / EXPERIMENT).write_text(dump_experiment(experiment), encoding="utf-8")
    except OSError as error:
        raise UserError(
            run, f"cannot be made ({error.strerror})", "Choose a run folder on a disk you can write to."
        ) from error
    publish_run(run)


def check_same_events(run: Path, train: Mapping[str, EventFiles]) -> None:
    """Makes sure that the training events are those a run began with: its place in an epoch is a place among them.

    Raises:
        UserError: a file is new, gone, or another; the first that differs is named.
    """
    then = read_json(run / EVENTS, Events, {})
    now = _described(train, then)
    for name, files in now.items():
        noted = then.get(name, [])
        if all("checksum" in file for file in noted) and same_content(noted, files):  # wherever they are by now
            continue
        old, new = ({file["file"]: file for file in of_run} for of_run in (noted, files))
        for file in sorted(old.keys() | new.keys()):
            if file not in old or file not in new or not _same(old[file], new[file]):
                changed = "is new" if file not in old else "is gone" if file not in new else "has changed"
                raise UserError(
                    file,
                    f"{changed} since the training in '{run}' began, so it cannot go on",
                    "Bring back the events as they were, or train into another folder with --run-dir.",
                )


def _same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a file is the one that was noted; of runs that an older version began there is no checksum."""
    return all(new.get(name) == value for name, value in old.items() if name != "stat")


def _described(
    train: Mapping[str, EventFiles], before: Mapping[str, list[dict[str, Any]]] = MappingProxyType({})
) -> dict[str, list[dict[str, Any]]]:
    """Domain -> its files, what they are, rows of each row group, and what is wrong with those set aside."""
    out: dict[str, list[dict[str, Any]]] = {}
    for name, events in train.items():
        noted = before.get(name, [])
        used = zip(identities(events.files, noted), events.group_rows, strict=True)
        out[name] = [file | {"rows": list(rows)} for file, rows in used]
        aside = zip(identities([file for file, _ in events.set_aside], noted), events.set_aside, strict=True)
        out[name] += [file | {"set_aside": why} for file, (_, why) in aside]
    return out


def check_new_or_same(run: Path, experiment: Experiment) -> bool:
    """Whether ``run`` already holds this very experiment; False if it is free to use.

    Raises:
        UserError: the folder holds something else, or another experiment: the differences are listed.
    """
    fetch_run(run)
    if (uri := origin(run)) is not None:
        check_writable(uri)
    if run.exists() and not run.is_dir():
        raise UserError(run, "is a file", "Give a folder for the run.")
    check_can_be_made(run, run, "Choose another folder with --run-dir.")
    _check_apart(run, experiment)
    if is_free(run, _BEFORE_ONE):
        return False
    if not (run / EXPERIMENT).is_file():
        raise UserError(run, "is not empty and holds no run", "Choose another folder with --run-dir.")
    refuse_links(run, files=True)
    old = load_experiment(run / EXPERIMENT)
    if old != experiment:
        changed = list(differences(old.model_dump(), experiment.model_dump()))
        shown = "; ".join(changed[:5]) + ("; ..." if len(changed) > 5 else "")
        raise UserError(
            run,
            f"holds a run of another experiment ({shown})",
            "Choose another folder with --run-dir, or undo the change.",
        )
    return True


def _check_apart(run: Path, experiment: Experiment) -> None:
    """Makes sure that no vocabulary of the run is taken for the data it is trained on.

    Raises:
        UserError: a pattern of events or of a catalog would name it.
    """
    vocabulary = join(origin(run) or str(run.absolute()), VOCABULARY, "user.parquet")
    patterns = [pattern for domain in experiment.domains.values() for pattern in domain.events.model_dump().values()]
    patterns += [entity.catalog.path for entity in experiment.entities.present().values() if entity.catalog is not None]
    for pattern in patterns:
        if pattern is not None and would_name(pattern, vocabulary):
            raise UserError(run, f"is in a folder that is read as data: '{pattern}'", "Choose another with --run-dir.")


def check_open_to_write(run: Path) -> None:
    """Finds out before the work whether a run's folder takes what is measured.

    Raises:
        UserError: it is another user's, or on a disk that cannot be written.
    """
    if (uri := origin(run)) is not None:
        check_writable(uri)
    elif not os.access(run, os.W_OK | os.X_OK):
        raise UserError(
            run,
            "may be read and not written, and results go into it",
            "Copy the run into a folder of yours, and give that.",
        )


def open_experiment(run: Path) -> Experiment:
    """The experiment of an existing run, without its vocabularies.

    Raises:
        UserError: there is no complete run in the folder, or one whose weights do not mean today what they did.
    """
    fetch_run(run)
    refuse_links(run)
    for needed in (EXPERIMENT, f"{VOCABULARY}/statistics.json"):
        if not (run / needed).is_file():
            raise UserError(run, f"holds no {needed}, so it is no run", "Give the folder that `foundrank train` wrote.")
    experiment = load_experiment(run / EXPERIMENT)
    check_meaning(run, *_made_as(run), experiment)
    return experiment


def _made_as(run: Path) -> tuple[dict[str, Any], list[Path]]:
    """What ``run.json`` says, and the complete checkpoints."""
    return read_json(run / RUN_INFO, RunInfo, {}), sorted(
        marker.parent for marker in (run / CHECKPOINTS).glob(f"*/{COMMITTED}")
    )


def order_of_lookups(run: Path) -> list[str] | None:
    """`old_runs.lookup_order` of a run.

    Raises:
        UserError: as that says.
    """
    info, checkpoints = _made_as(run)
    if info.get("format") == FORMAT:
        return None
    experiment = load_experiment(run / EXPERIMENT)
    layout = Statistics.load(run / VOCABULARY).layout(experiment)
    return lookup_order(run, info, checkpoints, experiment, layout)


def keep_format(run: Path) -> None:
    """Notes that a training that goes on is one of today's.

    Raises:
        UserError: it cannot go on: an older version's optimizer has an order of its own.
    """
    info = read_json(run / RUN_INFO, RunInfo, {})
    if info.get("format") == FORMAT:
        return
    if order_of_lookups(run) is not None:
        raise UserError(
            run,
            "was trained by an older version with gate: none on several ranks, and cannot go on",
            "Begin another run with init_from, which takes its lookups by name, as evaluate and score do.",
        )
    write_json(run / RUN_INFO, info | {"format": FORMAT})


def open_run(run: Path) -> tuple[Experiment, Statistics]:
    """The experiment and the statistics of an existing run.

    Raises:
        UserError: as of `open_experiment`.
    """
    experiment = open_experiment(run)
    order_of_lookups(run)
    statistics = Statistics.load(run / VOCABULARY)
    statistics.check_fits(experiment, run / VOCABULARY)
    return experiment, statistics


def id_types_of(run: Path) -> dict[str, str]:
    """Embedding table -> ``string`` or ``integer``, what its ids are in a run; empty where there is no run yet."""
    return read_json(run / VOCABULARY / STATISTICS, dict[str, Any], {}).get("id_types", {})


def differences(old: Any, new: Any, at: str = "") -> Iterable[str]:
    """Each value that is not the same in two nested dicts, with its dotted name."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from differences(old.get(key), new.get(key), f"{at}.{key}" if at else str(key))
    elif old != new:
        yield f"{at}: {old!r} there, {new!r} here"
